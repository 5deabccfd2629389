"""The report page: whole with everything and with next to nothing, safe with any text, self-contained."""

import re
from html.parser import HTMLParser

import pytest

from distill.reporting.page import label_tables, model_table, render, slice_table
from tests.helpers.reports.samples import minimal_report, sample_details, sample_report, sample_rows

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Outline(HTMLParser):
    """Collects tags, attributes, ids and headings; fails on a tag that closes what was not open."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.attributes, self.headings, self.tags = [], [], [], []
        self.feed(page)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample_report(), sample_rows(), sample_details())


def test_full_page_has_every_section_in_order(page):
    assert Outline(page).headings == [
        "What did I get?", "What did I lose?", "Is it faster here?", "Can I ship it?",
        "Models", "Curves", "Layers", "Classes", "Slices", "Calibration", "Agreement", "Rows that changed",
        "Warnings", "Before the first step", "Run"]  # fmt: skip


def test_minimal_page_leaves_out_what_it_does_not_know():
    page = render(minimal_report(), [], {})
    assert Outline(page).headings == [] and "Nothing was measured." in page
    assert "None" not in page and "nan" not in page


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        ("ratios", ["Is it faster here?"]),  # its place takes "How fast is it here?"
        ("exports", []),
        ("warnings", ["Warnings"]),
        ("preflight", ["Before the first step"]),
        ("versions", []),
        ("hardware", []),
        ("speedups", []),
        ("difference", []),
        ("baseline", []),
    ],
)
def test_any_part_may_be_missing(missing, lost):
    report = sample_report() | {"timeline": []}
    headings = Outline(render(report, [], {})).headings
    del report[missing]
    assert [heading for heading in headings if heading not in Outline(render(report, [], {})).headings] == lost


def test_fine_tuning_has_no_teacher_to_compare_with():
    report = sample_report() | {"ratios": {}, "timeline": []}
    report["models"]["teacher"] = None
    example = {"text": "A plane is taking off.", "label": 5.0, "teacher": None, "student": 3.21}
    page = render(report, [], {"examples": [example]})
    assert "How good is it?" in Outline(page).headings
    assert "3.210" in page and "<dt>teacher</dt>" not in page
    assert "The model reaches accuracy 0.9071" in page and "<dt>model</dt>" in page
    assert "student" not in re.sub(
        r"<(style|script)>.*?</\1>|student\.onnx|student/\S*|class=\"student\"", "", page, flags=re.DOTALL
    )


def test_every_text_is_escaped():
    bad = "<script>alert('x')</script>\"&"
    report, details = sample_report(), sample_details()
    report |= {"name": bad, "task": bad, "started": bad, "command": bad, "warnings": [bad]}
    report |= {"versions": {bad: bad}, "hardware": {"cpu": bad, "threads": 2}, "parity": {bad: 1e-6}}
    report["models"][bad] = report["models"]["student"] | {"metrics": {bad: 0.5}, "runtime": bad}
    report["exports"][0] |= {"format": bad, "path": bad}
    report["timeline"][0]["what"] = bad
    details["layers"] = details["layers"][:1]
    details["layers"][0]["name"] = details["agreement"]["labels"][0] = bad
    details["examples"][0] |= {"text": bad, "label": bad, "teacher": bad, "student": bad}
    details["skipped"] = [bad]
    rows = [{"step": step, f"train/{bad}": 1.0, f"val/{bad}": 0.5} for step in range(3)]
    details["classes"]["student"][0]["name"] = details["classes"]["teacher"][0]["name"] = bad
    details["slices"][0] |= {"name": bad, "metric": bad}
    details["calibration"][bad] = details["calibration"].pop("teacher")
    report["preflight"]["labels"] = {bad: {bad: bad}}
    report["preflight"]["outputs"] = {bad: {bad: bad}}
    report["baseline"] = {bad: 0.5}
    page = render(report, rows, details)
    assert Outline(page).tags.count("script") == 1 and "alert('x')</script>" not in page


def test_page_refers_to_nothing_outside_itself(page):
    outline = Outline(page)
    assert not {"link", "img", "iframe", "object"} & set(outline.tags)
    assert outline.tags.count("script") == 1 and "fetch(" not in page and len(page) < 1_000_000
    references = [value for name, value in outline.attributes if name.split(":")[-1] in ("src", "href")]
    assert references and all(value.startswith("#") for value in references)
    assert "url(" not in page and "@import" not in page


def test_ids_are_unique_and_every_reference_is_met(page):
    outline = Outline(page)
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for name, value in outline.attributes if name.split(":")[-1] == "href"} <= set(ids)


def test_same_input_gives_the_same_page():
    details = {"agreement": sample_details()["agreement"]}
    first, second = (render(sample_report(), sample_rows()[::100], details) for _ in range(2))
    assert first == second


def test_a_file_measured_as_the_student_has_no_row_of_its_own():
    _, rows = model_table(sample_report())
    assert [row["name"] for row in rows] == [
        "teacher", "teacher in onnxruntime", "student", "student in torch", "labels only",
        "safetensors", "constant prediction"]  # fmt: skip
    student = rows[2]
    assert student["note"] == "onnxruntime int8, student.onnx, logits within 0.0831" and student["is_student"]
    cells = {label: (text, edges) for label, text, edges in student["cells"]}
    assert cells["accuracy"] == ("0.9071", "0.8876–0.9255") and cells["as trained"] == ("99.7 %", "")
    assert cells["batch 1"] == ("3.12 ms", "3.02–3.41 ms")
    assert dict((label, text) for label, text, _ in rows[1]["cells"])["accuracy"] == "–"


def test_wrong_predictions_are_marked_and_right_ones_are_not(page):
    marked = re.findall(r'<dd class="wrong">✗ (\w+)', page)
    assert marked == ["negative", "positive"]
    assert re.findall(r'data-outcome="(\w+)"', page) == ["lost", "gained"]


def test_a_number_is_neither_right_nor_wrong():
    """Without a count of changed rows, predictions are numbers, which are hardly ever equal to their label."""
    examples = [{"text": "a film · a movie", "label": "2.8", "teacher": "2.79", "student": "0.78"}]
    page = render(sample_report(), sample_rows()[::100], {"examples": examples})
    assert "0.78" in page and "✗" not in page and re.findall(r'data-outcome="(\w+)"', page) == ["none"]


def test_what_was_joined_stands_in_a_table():
    (table,) = label_tables(sample_report())
    assert table["head"] == ["class", "value in the data", "output of teacher"]
    assert table["rows"] == [["negative", "0", "LABEL_0"], ["positive", "1", "LABEL_1"]]
    several = {
        "labels": {"mood": {"bad": "bad", "0": "bad"}, "size": {}},
        "outputs": {"teacher": {"mood/x": "mood/bad"}},
    }
    (table,) = label_tables({"preflight": several})
    assert (table["task"], table["rows"]) == ("mood", [["bad", "bad, 0", "mood/x"]])


def test_a_slice_that_loses_more_than_all_rows_is_told_in_words_and_marked(page):
    text = "the student is 0.0826 worse than the teacher in accuracy on these 121 rows, and 0.0172 on all."
    assert re.sub(r"\s+", " ", page).count(text) == 1
    details = sample_details()
    details["slices"][0]["total_loss"] = -0.01
    assert "rows, and no worse on all." in re.sub(r"\s+", " ", render(sample_report(), [], details))
    first, second = slice_table(sample_details()["slices"])
    assert first["cells"] == [
        ("rows", "121", "", False), ("teacher", "0.9339", "", False), ("student", "0.8512", "", False),
        ("difference", "−0.0826", "−0.1322 to −0.0331", True)]  # fmt: skip
    assert second["cells"][-1] == ("difference", "+0.0034", "−0.0103 to +0.0172", False) and second["note"] == ""


def test_slices_of_a_model_alone_and_of_several_metrics():
    details = {"slices": sample_details()["slices"]}
    for part, metric in zip(details["slices"], ("mood/f1", "size/spearman"), strict=True):
        part |= {"scores": {"student": 0.5}, "difference": None, "interval": [0.4, 0.6], "metric": metric}
        part["loses_more"] = False
    rows = slice_table(details["slices"])
    assert [row["note"] for row in rows] == ["mood/f1", "size/spearman"]
    assert rows[0]["cells"] == [("rows", "121", "", False), ("student", "0.5000", "0.4000–0.6000", False)]
    assert "on these" not in render(sample_report(), [], details)
    undefined = sample_details()["slices"][0] | {"difference": float("nan"), "interval": [float("nan")] * 2}
    assert slice_table([undefined])[0]["cells"][-1] == ("difference", "–", "", True)


def test_pictures_and_scrolling_parts_have_a_name(page):
    outline = Outline(page)
    assert "aria-label" in {name for name, _ in outline.attributes}
    assert page.count('role="img" aria-label="') == page.count("<svg")
    assert page.count('class="scroll" tabindex="0" role="region" aria-label="') == page.count('class="scroll"')


def many_classes(count: int) -> tuple[dict, dict]:
    """A report and its details with many classes, all of whose names are needed on the page."""
    report, details, names = sample_report(), sample_details(), [f"class {i}" for i in range(count)]
    report["preflight"] |= {"labels": {"": dict(zip(names, names, strict=True))}, "outputs": {}}
    details["classes"] = {
        model: [rows[0] | {"name": name, "rows": i} for i, name in enumerate(names)]
        for model, rows in details["classes"].items()
    }
    return report, details


def test_of_many_classes_the_most_frequent_stand_on_the_page():
    page = render(*(many_classes(100)[0], [], {"classes": many_classes(100)[1]["classes"]}))
    assert "40 rarer classes are left out." in page and "And 40 more." in page
    assert 'role="rowheader">class 99<' in page and 'role="rowheader">class 39<' not in page


@pytest.mark.slow
def test_a_page_of_a_large_model_in_a_script_of_three_bytes_is_below_a_megabyte():
    report, details = many_classes(150)
    details["layers"] = [details["layers"][0] | {"name": f"bert.encoder.layer.{i // 6}.x{i % 6}"} for i in range(150)]
    details["examples"] = [details["examples"][0] | {"text": f"{i} " + "語" * 500} for i in range(150)]
    assert len(render(report, sample_rows(), details).encode()) < 1_000_000
