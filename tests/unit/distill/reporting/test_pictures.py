"""The pictures of the page: what they show, what they leave out, and that they take the page's colours."""

import math
import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from distill.reporting.pictures import (
    MAX_LABELS,
    agreement_matrix,
    layer_bars,
    loss_curves,
    merge_rare_classes,
    series,
    short_name,
    svg,
)
from tests.helpers.reports.samples import sample_details, sample_report, sample_rows


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
    assert agreement.axes[0].get_xlabel() == "student's prediction"
    assert agreement.axes[0].get_ylabel() == "teacher's prediction"


def test_only_losses_over_more_than_a_decade_are_logarithmic(figures):
    scales = {axis.get_ylabel(): axis.get_yscale() for axis in figures[0].axes}
    assert scales["embeddings"] == "log" and scales["attention"] == scales["accuracy"] == "linear"
    negative = [{"step": step, "train/reward": value} for step, value in enumerate((-1.0, 0.1, 100.0))]
    assert loss_curves(negative, [], 2).axes[0].get_yscale() == "linear"


def test_sparsity_and_penalty_have_a_curve_where_there_was_any():
    rows = [{"step": step, "train/labels": 1.0, "sparsity": 0.0, "penalty": 0.1 * step} for step in range(3)]
    assert [axis.get_ylabel() for axis in loss_curves(rows, [], 3).axes] == ["labels", "penalty"]


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
    size = MAX_LABELS + 8
    counts = [[(i * j) % 5 + 100 * (i == j == 3) for j in range(size)] for i in range(size)]
    gathered, labels = merge_rare_classes(counts, [f"c{i}" for i in range(size)])
    assert len(gathered) == len(labels) == MAX_LABELS and "c3" in labels and labels[-1] == "other"
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
