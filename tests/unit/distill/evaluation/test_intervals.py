"""Intervals of metrics: those of scipy's bootstrap, for metrics whose states are sums or lists, paired and blocked."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from distill.evaluation import intervals
from distill.evaluation.intervals import RowLists, RowStates, difference_intervals, percentile_interval
from distill.evaluation.measure import evaluate_model
from distill.tasks.kinds.several import MultiTask
from distill.tasks.kinds.texts import Regression
from tests.helpers.worlds import ready_task, three_classes, three_labels

ROWS = 200


@pytest.fixture(autouse=True)
def full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of runs take a few resamples."""
    monkeypatch.setattr("distill.evaluation.intervals.RESAMPLES", 1000)


def batches(labels: torch.Tensor, size: int = 16) -> list[dict[str, torch.Tensor]]:
    numbers = torch.arange(len(labels))
    return [
        {"input_ids": numbers[rows][:, None], "labels": labels[rows], "row": numbers[rows]}
        for rows in torch.arange(len(labels)).split(size)
    ]


def by_row(outputs: torch.Tensor):
    return lambda batch: outputs[batch["input_ids"][:, 0]]


def classes(seed: int, accuracy: float = 0.8) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels, and logits that are right with a probability."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (ROWS,), generator=torch.Generator().manual_seed(0))
    wrong = (labels + 1 + torch.randint(2, (ROWS,), generator=generator)) % 3
    right = torch.rand(ROWS, generator=generator) < accuracy
    return labels, torch.nn.functional.one_hot(torch.where(right, labels, wrong), 3).float()


def test_accuracy_and_matthews_have_the_intervals_of_scipy():
    labels, logits = classes(1)
    result = evaluate_model(three_classes(), by_row(logits), batches(labels), resample=True)
    true, predicted = labels.numpy(), logits.argmax(-1).numpy()

    def matthews(true: np.ndarray, predicted: np.ndarray) -> float:
        counts = np.zeros((3, 3))
        np.add.at(counts, (true, predicted), 1.0)
        rows, columns, n = counts.sum(1), counts.sum(0), counts.sum()
        return (counts.trace() * n - rows @ columns) / math.sqrt((n * n - rows @ rows) * (n * n - columns @ columns))

    for name, statistic in (("accuracy", lambda a, b: float((a == b).mean())), ("matthews", matthews)):
        reference = stats.bootstrap(
            (true, predicted), statistic, paired=True, vectorized=False, n_resamples=4000, method="percentile", rng=7
        )
        interval = percentile_interval(result.replicates[name])
        assert interval == pytest.approx(list(reference.confidence_interval), abs=0.012), name
        assert result.replicates[name].std() == pytest.approx(float(reference.standard_error), rel=0.08), name
        assert interval[0] < result.metrics[name] < interval[1]


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlations_have_the_intervals_of_scipy(name: str):
    generator = torch.Generator().manual_seed(3)
    labels = torch.randn(ROWS, generator=generator)
    outputs = labels + 0.5 * torch.randn(ROWS, generator=generator)
    result = evaluate_model(Regression(data="none"), by_row(outputs[:, None]), batches(labels), resample=True)
    function = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[name]
    pairs = labels.double().numpy(), outputs.double().numpy()
    assert result.metrics[name] == pytest.approx(function(*pairs).statistic, abs=1e-5)
    reference = stats.bootstrap(
        pairs, lambda a, b: function(a, b).statistic, paired=True, vectorized=False, n_resamples=2000,
        method="percentile", rng=7)  # fmt: skip
    assert percentile_interval(result.replicates[name]) == pytest.approx(list(reference.confidence_interval), abs=0.006)


def test_each_replicate_is_the_metric_of_the_rows_drawn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("distill.evaluation.intervals.RESAMPLES", 5)
    labels, logits = classes(2)
    task = three_classes()
    replicates = evaluate_model(task, by_row(logits), batches(labels), resample=True).replicates
    draws = np.random.default_rng(intervals.SEED).integers(0, ROWS, (5, ROWS))
    for number, draw in enumerate(draws):
        rows = torch.from_numpy(draw)
        again = evaluate_model(task, by_row(logits[rows]), batches(labels[rows])).metrics
        assert {name: values[number] for name, values in replicates.items()} == pytest.approx(again)


def test_of_several_labels_each_replicate_has_the_threshold_of_all_rows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("distill.evaluation.intervals.RESAMPLES", 5)
    draw = torch.Generator().manual_seed(0)
    labels = (torch.rand(ROWS, 3, generator=draw) < 0.3).long()
    logits = labels + torch.randn(ROWS, 3, generator=draw)
    result = evaluate_model(three_labels(), by_row(logits), batches(labels), resample=True)
    task = three_labels(threshold=result.threshold)
    for number, drawn in enumerate(np.random.default_rng(intervals.SEED).integers(0, ROWS, (5, ROWS))):
        rows = torch.from_numpy(drawn)
        again = evaluate_model(task, by_row(logits[rows]), batches(labels[rows])).metrics
        assert {name: values[number] for name, values in result.replicates.items()} == pytest.approx(again)


def test_the_difference_of_two_models_is_paired():
    """Both are wrong at nearly the same rows, so their difference is far more certain than either."""
    labels, logits = classes(4)
    other = logits.clone()
    other[:3] = torch.nn.functional.one_hot((labels[:3] + 1) % 3, 3).float()
    task = three_classes()
    left, right = (evaluate_model(task, by_row(part), batches(labels), resample=True) for part in (logits, other))
    low, high = difference_intervals(left.replicates, right.replicates)["accuracy"]
    alone = percentile_interval(left.replicates["accuracy"])
    assert 0 <= low <= left.metrics["accuracy"] - right.metrics["accuracy"] <= high
    assert high - low < 0.5 * (alone[1] - alone[0])
    same = difference_intervals(left.replicates, left.replicates)
    assert set(map(tuple, same.values())) == {(0.0, 0.0)}


def row_states(labels: torch.Tensor, logits: torch.Tensor, size: int = 16) -> RowStates:
    states = RowStates(three_classes())
    for batch in batches(labels, size):
        states.update(by_row(logits)(batch), batch, {})
    return states


def test_a_block_is_a_sum_of_neighbours(monkeypatch: pytest.MonkeyPatch):
    """Seven rows in blocks of 2, 2, 2 and 1, of which 2, 1, 0 and 1 rows are right."""
    monkeypatch.setattr("distill.evaluation.intervals.MAX_UNITS", 4)
    monkeypatch.setattr("distill.evaluation.intervals.RESAMPLES", 50)
    labels, right = torch.zeros(7).long(), torch.tensor([1, 1, 0, 1, 0, 0, 1])
    logits = torch.nn.functional.one_hot(1 - right, 3).float()
    found = row_states(labels, logits, 3).replicates(names=["accuracy"])
    draws = np.random.default_rng(intervals.SEED).integers(0, 4, (50, 4))
    correct, count = np.array([2, 1, 0, 1]), np.array([2, 2, 2, 1])
    assert set(found) == {"accuracy"}
    assert found["accuracy"] == pytest.approx(correct[draws].sum(1) / count[draws].sum(1))


def test_some_rows_have_the_metrics_and_the_interval_of_those_rows_alone():
    labels, logits = classes(8)
    chosen = list(range(0, ROWS, 3))
    states, alone = row_states(labels, logits), row_states(labels[chosen], logits[chosen])
    metrics = evaluate_model(three_classes(), by_row(logits[chosen]), batches(labels[chosen])).metrics
    for name, value in metrics.items():
        assert states.value(name, chosen) == pytest.approx(value)
        assert states.replicates(chosen)[name].tolist() == alone.replicates()[name].tolist()


def test_numbers_of_some_rows_have_the_correlation_of_those_rows_alone():
    labels = torch.randn(30, generator=torch.Generator().manual_seed(0))
    outputs = labels + torch.randn(30, generator=torch.Generator().manual_seed(1))
    result = evaluate_model(Regression(data="none"), by_row(outputs[:, None]), batches(labels), resample=True)
    chosen = [3, 4, 9, 20, 21, 22, 29]
    expected = stats.spearmanr(labels[chosen], outputs[chosen]).statistic
    assert result.states.value("spearman", chosen) == pytest.approx(expected, abs=1e-6)


def test_of_many_rows_blocks_are_drawn(monkeypatch: pytest.MonkeyPatch):
    labels, logits = classes(5)
    rows = percentile_interval(evaluate_model(three_classes(), by_row(logits), batches(labels), True).replicates["f1"])
    monkeypatch.setattr("distill.evaluation.intervals.MAX_UNITS", 60)
    states = [row_states(labels, logits, size) for size in (16, 50)]
    replicates = [part.replicates()["f1"] for part in states]
    assert percentile_interval(replicates[0]) == pytest.approx(rows, abs=0.03)
    assert replicates[0].tolist() == replicates[1].tolist(), "blocks do not depend on the batches"


def test_several_tasks_have_an_interval_each_and_one_of_their_mean():
    number, mood = Regression(data="none"), three_classes()
    several = MultiTask(tasks={"mood": mood, "length": number})
    labels, logits = classes(6)
    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(ROWS, generator=generator)
    outputs = torch.cat([logits, (targets + torch.randn(ROWS, generator=generator))[:, None]], 1)
    mixed = [batch | {"task": torch.zeros(len(batch["labels"]), dtype=torch.long)} for batch in batches(labels)]
    mixed += [batch | {"task": torch.ones(len(batch["labels"]), dtype=torch.long)} for batch in batches(targets)]
    several.outputs = lambda name: slice(0, 3) if name == "mood" else slice(3, 4)
    result = evaluate_model(several, by_row(outputs), mixed, resample=True)
    assert set(result.replicates) == set(result.metrics) > {"mean", "mood/accuracy", "length/spearman"}
    for name, values in result.replicates.items():
        low, high = percentile_interval(values)
        assert low < result.metrics[name] < high, name
    assert result.replicates["mean"] == pytest.approx(
        (result.replicates["mood/accuracy"] + result.replicates["length/spearman"]) / 2, abs=1e-6
    )


def test_perplexity_of_tokens_is_drawn_by_row(tmp_path, tokenizer):
    task = ready_task("causal_lm", tmp_path)
    task.tokenizer = tokenizer
    labels = torch.randint(5, len(tokenizer), (40, 3), generator=torch.Generator().manual_seed(0))
    labels[::2, 2] = -100
    logits = torch.randn(40, 3, len(tokenizer), generator=torch.Generator().manual_seed(1))
    result = evaluate_model(task, by_row(logits), batches(labels), resample=True)
    mask = labels != -100
    losses = torch.nn.functional.cross_entropy(logits.double()[mask], labels[mask], reduction="none")
    sums = np.array([float(part.sum()) for part in losses.split(mask.sum(1).tolist())])
    reference = stats.bootstrap(
        (sums, mask.sum(1).numpy()), lambda total, count, axis: np.exp(total.sum(axis) / count.sum(axis)),
        paired=True, n_resamples=4000, method="percentile", rng=7)  # fmt: skip
    assert percentile_interval(result.replicates["perplexity"]) == pytest.approx(
        list(reference.confidence_interval), rel=0.02
    )


def test_what_is_never_defined_has_no_interval():
    assert all(math.isnan(edge) for edge in percentile_interval(np.array([math.nan, math.nan])))
    assert percentile_interval(np.array([1.0, math.nan, 1.0])) == [1.0, 1.0]


def test_exact_match_of_answers_is_drawn_by_row(tmp_path):
    states = RowStates(ready_task("question_answering", tmp_path))
    keys = [(name, state) for name in ("exact_match", "f1") for state in ("exact_match", "f1_score", "total")]
    values = [torch.tensor((i % 2, 0.0, 1, 0.0, i / 10, 1)) for i in range(10)]
    states.sums, states.count = {key: [column] for key, column in zip(keys, torch.stack(values, 1), strict=True)}, 10
    replicates = states.replicates()
    assert replicates["exact_match"].mean() == pytest.approx(0.5, abs=0.02)
    assert replicates["f1"].mean() == pytest.approx(0.45, abs=0.02)


def test_values_of_rows_are_taken_in_the_order_of_the_draw():
    lists = RowLists.of([[torch.tensor([1.0, 2.0])], [], [torch.tensor([3.0]), torch.tensor([4.0])]])
    (values,) = lists.take(np.array([2, 1, 0, 2]))
    assert values.tolist() == [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]
    blocks = lists.blocks(np.array([0, 1, 2, 0]), np.array([0, 2]))
    assert [blocks.take(np.array([block]))[0].tolist() for block in (0, 1)] == [[1.0, 2.0], [3.0, 4.0, 1.0, 2.0]]
