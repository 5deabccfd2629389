"""The report page: whole with everything and with next to nothing, safe with any text, self-contained."""

import math
from html.parser import HTMLParser

import pytest

from distill.reporting.page import format_number, render, summary_sentence
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
        "Models", "Savings", "Curves", "Layers", "Agreement", "Largest disagreements",
        "Warnings", "Run"]  # fmt: skip


def test_minimal_page_leaves_out_what_it_does_not_know():
    page = render(minimal_report(), [], {})
    assert Outline(page).headings == [] and "Nothing was measured." in page
    assert "None" not in page and "nan" not in page


@pytest.mark.parametrize(
    ("missing", "lost"),
    [("ratios", []), ("exports", []), ("warnings", ["Warnings"]), ("versions", []), ("hardware", [])],
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
    assert "Savings" not in Outline(page).headings
    assert "3.210" in page and "<dt>teacher</dt>" not in page


def test_sentence_with_a_teacher():
    assert summary_sentence(sample_report()) == (
        "The student keeps 98.1 % of the teacher's accuracy, 30 times smaller, "
        "12 times faster at batch 1 (onnxruntime int8, 2 threads)."
    )


def test_sentence_does_not_boast():
    report = sample_report()
    report["main_metric"], report["models"]["student"]["metrics"] = "perplexity", {"perplexity": 21.0}
    report["ratios"] = {"retained": 1.05, "smaller": 4.0, "faster_batch_1": 0.5}
    assert summary_sentence(report) == (
        "The student has 1.050 times the teacher's perplexity, 4.0 times smaller, "
        "2.0 times slower at batch 1 (onnxruntime int8, 2 threads)."
    )
    report["ratios"] = {"smaller": 1.0, "faster_batch_1": 0.97}
    report["models"]["student"]["metrics"] = {"perplexity": 20.0}
    assert summary_sentence(report) == (
        "The student reaches perplexity 20.00, 1.0 times as large, "
        "1.0 times as fast at batch 1 (onnxruntime int8, 2 threads)."
    )


def test_sentence_without_a_teacher():
    report = sample_report()
    report["models"]["teacher"], report["ratios"] = None, {}
    assert summary_sentence(report) == (
        "The student reaches accuracy 0.9071, takes 14.6 MB, "
        "answers in 3.12 ms at batch 1 (onnxruntime int8, 2 threads)."
    )


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "", "–"), (math.nan, "ms", "–"), (0, "", "0.000"), (0.90711, "", "0.9071"),
        (21.3456, "", "21.35"), (3e-6, "", "3.0e-06"), (0.98142, "%", "98.1 %"), (5.51, "x", "5.5 ×"),
        (29.95, "x", "30 ×"), (512, "B", "512 B"), (14_622_019, "B", "14.6 MB"),
        (999_950_000, "B", "1.000 GB"),
        (109_483_778, "n", "109 M"), (624, "n", "624"), (3.124, "ms", "3.12 ms"), (972.6, "ms", "973 ms"),
        (0.0421, "ms", "0.042 ms"), (1234.5, "ms", "1,234 ms"), (12.34, "s", "12.3 s"), (276, "s", "5 min"),
        (4382.7, "s", "1 h 13 min"),
    ],
)  # fmt: skip
def test_numbers(value, unit, text):
    assert format_number(value, unit) == text


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
    outline = Outline(render(report, rows, details))
    assert "script" not in outline.tags


def test_page_refers_to_nothing_outside_itself(page):
    outline = Outline(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
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
