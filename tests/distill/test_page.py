"""The report page: whole with everything and with next to nothing, safe with any text, self-contained."""

import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from distill.page import render, result, show
from distill.pictures import LABELS, agreement_matrix, gather_rare, layer_bars, loss_curves, series, short_name, svg

VOID = {"meta", "link", "br", "hr", "img", "input"}


def sample_report() -> dict:
    """TinyBERT on SST-2, pruned and 8-bit, as report.json holds it."""
    teacher = {
        "metrics": {"accuracy": 0.9243, "f1": 0.9261},
        "parameters": 109_483_778,
        "nonzero_parameters": 109_483_778,
        "bytes": 437_975_216,
        "flops_per_example": 11_170_000_000,
        "latency_ms": {"batch_1": 38.41, "batch_32": 972.6},
        "runtime": "torch",
        "precision": "fp32",
    }
    student = {
        "metrics": {"accuracy": 0.9071, "f1": 0.9093},
        "parameters": 14_350_874,
        "nonzero_parameters": 11_203_551,
        "bytes": 14_622_019,
        "flops_per_example": 1_240_000_000,
        "latency_ms": {"batch_1": 3.124, "batch_32": 88.04},
        "runtime": "onnxruntime",
        "precision": "int8",
    }
    labels_only = student | {"metrics": {"accuracy": 0.8326, "f1": 0.8411}}
    return {
        "schema": 1,
        "name": "tinybert-sst2-int8",
        "task": "classification",
        "main_metric": "accuracy",
        "started": "2025-11-22 07:41",
        "seconds": 4382.7,
        "command": "python train.py --config tinybert.yaml --losses.logits.weight=0.5 --output runs/sst2",
        "seed": 17,
        "versions": {"python": "3.11.2", "torch": "2.13.0", "lightning": "2.6.6", "transformers": "5.23.0"},
        "hardware": {"cpu": "AMD EPYC 7763", "threads": 2, "accelerator": "NVIDIA H200"},
        "models": {"teacher": teacher, "student": student, "labels only": labels_only},
        "ratios": {"retained": 0.9814, "smaller": 29.95, "faster_batch_1": 12.29, "faster_batch_32": 11.05},
        "timeline": [
            {"what": "losses.embeddings", "start_step": 0, "stop_step": 10_000},
            {"what": "losses.hidden", "start_step": 0, "stop_step": 10_000},
            {"what": "losses.attention", "start_step": 0, "stop_step": 10_000},
            {"what": "losses.logits", "start_step": 10_000, "stop_step": 20_000},
            {"what": "prune.sparsity", "start_step": 11_000, "stop_step": 17_000},
            {"what": "quantize", "start_step": 17_000, "stop_step": 20_000},
        ],
        "exports": [
            {
                "format": "onnx int8",
                "path": "student.onnx",
                "bytes": 14_622_019,
                "metrics": {"accuracy": 0.9071, "f1": 0.9093},
                "latency_ms": {"batch_1": 3.124, "batch_32": 88.04},
                "agreement": 0.9966,
                "largest_difference": 0.0831,
            },
            {
                "format": "safetensors",
                "path": "student/model.safetensors",
                "bytes": 57_403_496,
                "metrics": {"accuracy": 0.9083, "f1": 0.9104},
                "latency_ms": {"batch_1": 6.02, "batch_32": 151.0},
                "agreement": 1.0,
                "largest_difference": 0.0,
            },
        ],
        "parity": {"fold": 2.4e-6, "cut": 1.9e-6},
        "warnings": ["int8 answers batch 1 only 1.3 times faster than bf16 on this CPU, which lacks VNNI."],
    }


def sample_rows() -> list[dict]:
    """Losses that fall, switch on and off at half time, and an accuracy every 1000 steps."""
    rows = []
    for step in range(0, 20_001, 50):
        noise, early = 1 + 0.12 * math.sin(step * 12.9898), step < 10_000
        after = max(0, step - 10_000)
        rows.append(
            {
                "step": step,
                "progress": step / 20_000,
                "train/embeddings": noise * (0.02 + 0.9 * math.exp(-step / 900)) if early else None,
                "train/embeddings_weight": 1.0 if early else 0.0,
                "train/hidden": noise * (0.11 + 2.2 * math.exp(-step / 2500)),
                "train/hidden_weight": 1.0 if early else 0.0,
                "train/attention": noise * (0.4 + 1.1 * math.exp(-step / 3000)),
                "train/attention_weight": 1.0 if early else 0.0,
                "train/logits": noise * (0.05 + 0.5 * math.exp(-after / 1200)),
                "train/logits_weight": 0.0 if early else 1.0,
                "lr": 5e-5 * (1 - step / 20_000),
                "sparsity": 0.8 * (1 - (1 - min(1, max(0, step - 11_000) / 6000)) ** 3),
                "bits": 8 if step >= 17_000 else 32,
                "val/accuracy": None if step % 1000 else 0.907 - 0.4 * math.exp(-step / 3000),
            }
        )
    return rows


def sample_details() -> dict:
    """Four layers with heads and neurons cut, an agreement of two classes, and two disputed sentences."""
    parts = {"attention.self.query": 0.7, "attention.self.value": 0.62, "attention.output.dense": 0.66,
             "intermediate.dense": 0.83, "output.dense": 0.86}  # fmt: skip
    layers = [
        {
            "name": f"bert.encoder.layer.{depth}.{part}",
            "sparsity": sparsity - 0.05 * depth,
            "bits": 8,
            "parameters": int(374_400 * (0.7 if part == "intermediate.dense" else 1)),
            "parameters_before": 374_400,
        }
        for depth in range(4)
        for part, sparsity in parts.items()
    ]
    head = {"name": "classifier", "sparsity": 0.0, "bits": None, "parameters": 624, "parameters_before": 624}
    return {
        "layers": [*layers, head],
        "agreement": {"labels": ["negative", "positive"], "counts": [[412, 17], [22, 421]]},
        "examples": [
            {"text": "it 's a charming and often affecting journey that takes its time to say so , "
             "and then says it with a shrug",
             "label": "positive", "teacher": "positive", "student": "negative",
             "teacher_probability": 0.9981, "student_probability": 0.7312},
            {"text": "unflinchingly bleak and desperate", "label": "negative", "teacher": "positive",
             "student": "negative", "teacher_probability": 0.6132, "student_probability": 0.9542},
        ],
        "skipped": ["bert.embeddings.LayerNorm", "bert.pooler.dense"],
    }  # fmt: skip


def minimal_report() -> dict:
    """Fine-tuning before anything was measured."""
    return {"name": "bare", "models": {"teacher": None, "student": {}}}


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
        "Models", "What was saved", "How it went", "Layer by layer", "Agreement", "Where they differ most",
        "Warnings", "How it was made"]  # fmt: skip


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
    whole = Outline(render(report, [], {})).headings
    del report[missing]
    assert [heading for heading in whole if heading not in Outline(render(report, [], {})).headings] == lost


def test_fine_tuning_has_no_teacher_to_compare_with():
    report = sample_report() | {"ratios": {}, "timeline": []}
    report["models"]["teacher"] = None
    example = {"text": "A plane is taking off.", "label": 5.0, "teacher": None, "student": 3.21}
    page = render(report, [], {"examples": [example]})
    assert "What was saved" not in Outline(page).headings
    assert "3.210" in page and "<dt>teacher</dt>" not in page


def test_sentence_with_a_teacher():
    assert result(sample_report()) == (
        "The student keeps 98.1 % of the teacher's accuracy, 30 times smaller, "
        "12 times faster at batch 1 (onnxruntime int8, 2 threads)."
    )


def test_sentence_does_not_boast():
    report = sample_report()
    report["main_metric"], report["models"]["student"]["metrics"] = "perplexity", {"perplexity": 21.0}
    report["ratios"] = {"retained": 1.05, "smaller": 4.0, "faster_batch_1": 0.5}
    assert result(report) == (
        "The student has 1.050 times the teacher's perplexity, 4.0 times smaller, "
        "2.0 times slower at batch 1 (onnxruntime int8, 2 threads)."
    )


def test_sentence_without_a_teacher():
    report = sample_report()
    report["models"]["teacher"], report["ratios"] = None, {}
    assert result(report) == (
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
    assert show(value, unit) == text


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


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    details = sample_details()
    return [
        loss_curves(sample_rows(), sample_report()["timeline"], 20_000),
        layer_bars(details["layers"]),
        agreement_matrix(details["agreement"]["counts"], details["agreement"]["labels"]),
    ]


def test_axes_are_labelled(figures):
    curves, bars, agreement = figures
    assert [axis.get_ylabel() for axis in curves.axes] == [
        "accuracy", "embeddings", "hidden", "attention", "logits", "sparsity", "timeline"]  # fmt: skip
    assert curves.axes[-1].get_xlabel() == "step"
    assert all(axis.get_xlabel() for axis in bars.axes)
    assert agreement.axes[0].get_xlabel() == "student says"
    assert agreement.axes[0].get_ylabel() == "teacher says"


def test_only_losses_over_more_than_a_decade_are_logarithmic(figures):
    scales = {axis.get_ylabel(): axis.get_yscale() for axis in figures[0].axes}
    assert scales["embeddings"] == "log" and scales["attention"] == scales["accuracy"] == "linear"
    negative = [{"step": step, "train/reward": value} for step, value in enumerate((-1.0, 0.1, 100.0))]
    assert loss_curves(negative, [], 2).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("index", [0, 1, 2])
def test_svg_is_xml_that_takes_the_pages_colours(figures, index):
    text = svg(figures[index])
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg") and root.get("viewBox") and root.get("width") is None
    assert "var(--accent" in text and "var(--sans" in text and "DejaVu" not in text
    fixed = re.findall(r": #\w{6}", re.sub(r"var\([^)]*\)", "", text))
    assert not fixed, "colours that would not follow the theme"


def test_png_for_the_tracker(figures, tmp_path):
    for number, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000


def test_matrix_writes_its_counts():
    axis = agreement_matrix([[412, 17], [22, 1421]], ["no", "yes"]).axes[0]
    assert [text.get_text() for text in axis.texts] == ["412", "17", "22", "1,421"]


def test_rare_classes_are_gathered_without_losing_an_example():
    size = LABELS + 8
    counts = [[(i * j) % 5 + 100 * (i == j == 3) for j in range(size)] for i in range(size)]
    gathered, labels = gather_rare(counts, [f"c{i}" for i in range(size)])
    assert len(gathered) == len(labels) == LABELS and "c3" in labels and labels[-1] == "other"
    assert sum(map(sum, gathered)) == sum(map(sum, counts))


def test_series_leaves_out_what_is_missing_and_averages_the_rest():
    rows = [{"step": step, "a": value} for step, value in enumerate((1.0, None, math.nan))]
    rows.append({"step": 3, "a": 2.0, "a_weight": 0.0})
    assert series(rows, "a") == [(0, 1.0, True), (3, 2.0, False)]
    long = series([{"step": step, "a": float(step)} for step in range(1000)], "a")
    assert long[0] == (2.0, 2.0, True) and len(long) == 200


@pytest.mark.parametrize(
    ("length", "short"),
    [(50, "bert.encoder.layer.11.output.dense"), (28, "b.e.layer.11.output.dense"), (5, "b.e.l.11.o.dense")],
)
def test_short_name_keeps_the_number_of_the_layer(length, short):
    assert short_name("bert.encoder.layer.11.output.dense", length) == short


@pytest.mark.parametrize(
    ("draw", "start"),
    [
        (lambda: loss_curves([], [], 10), "rows:"),
        (lambda: layer_bars([]), "layers:"),
        (lambda: agreement_matrix([[1, 2]], ["a", "b"]), "counts:"),
    ],
)
def test_nothing_to_draw_is_an_error(draw, start):
    with pytest.raises(ValueError, match=f"^{start}"):
        draw()
