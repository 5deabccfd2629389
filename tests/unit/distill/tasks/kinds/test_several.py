"""Several tasks at once: batches of one task each, outputs side by side, a mean of metrics, teachers of their own."""

import json
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from distill import run
from distill.config.loader import ConfigError
from distill.data import prepare_data
from distill.data.batches import LengthGroupedBatchSampler, sequential_batches
from distill.tasks.kinds.several import MultiTask
from distill.tasks.kinds.texts import Classification, Regression
from tests.helpers.repositories import save_tokenizer, sentences

CONFIG = """\
task:
  name: multi_task
  batch_size: 8
  tasks:
    taste: {{name: classification, data: {folder}/taste, text: sentence, max_length: 32}}
    length: {{name: regression, data: {folder}/length, text: sentence, max_length: 32}}
    part: {{name: classification, data: {folder}/part, text: sentence, max_length: 32, metric: f1}}
teacher: {teacher}
student: {{kind: Transformer, layers: 2}}
losses:
  hidden: {{kind: HiddenMSE, layers: uniform}}
  labels: {{kind: Labels}}
  logits: {{kind: Logits, temperature: 2.0}}
prune: {{kind: Magnitude, shape: neurons, sparsity: {{kind: Cubic, to: 0.25, start: 10%, stop: 60%}}}}
quantize: {{start: 70%}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""
WIDTHS = {"taste": 2, "length": 1, "part": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Data of three tasks; a teacher of all, and one of each."""
    folder = tmp_path_factory.mktemp("several")
    rows = {"train": sentences(48, 0), "validation": sentences(12, 1)}
    label = {
        "taste": lambda row: row["label"],
        "length": lambda row: len(row["sentence"]) / 10,
        "part": lambda row: row["idx"] % 3,
    }
    kinds = {"taste": ClassLabel(names=["bad", "good"]), "length": Value("float32"), "part": Value("int64")}
    for name in WIDTHS:
        (folder / name).mkdir()
        features = Features({"sentence": Value("string"), "label": kinds[name]})
        for split, table in rows.items():
            made = [{"sentence": f"{name} {row['sentence']}", "label": label[name](row)} for row in table]
            Dataset.from_list(made, features=features).to_parquet(folder / name / f"{split}.parquet")
    names = ["taste/bad", "taste/good", "length", "part/LABEL_0", "part/LABEL_1", "part/LABEL_2"]
    save(folder / "teacher", names)
    save(folder / "of-taste", ["good", "bad"])
    save(folder / "of-length", ["LABEL_0"])
    save(folder / "of-part", [f"LABEL_{i}" for i in range(3)])
    return folder


def save(folder: Path, names: list[str]) -> None:
    size = save_tokenizer(folder)
    config = BertConfig(
        vocab_size=size, num_hidden_layers=4, hidden_size=32, num_attention_heads=4, intermediate_size=64
    )
    config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(names))
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def task(folder: Path) -> MultiTask:
    given = {"text": "sentence", "max_length": 32}
    parts = {
        "taste": Classification(data=str(folder / "taste"), **given),
        "length": Regression(data=str(folder / "length"), **given),
        "part": Classification(data=str(folder / "part"), metric="f1", **given),
    }
    return MultiTask(tasks=parts, batch_size=8)


@pytest.mark.parametrize("apart", [False, True])
def test_runs_from_data_to_report(folder, apart):
    file = folder / f"x{apart}.yaml"
    members = ", ".join(f"{name}: {folder}/of-{name}" for name in WIDTHS)
    file.write_text(
        CONFIG.format(
            folder=folder, teacher=f"{{members: {{{members}}}, combine: task}}" if apart else folder / "teacher"
        )
    )
    report = run(file, **({"quantize": None} if apart else {}))
    saved_report = json.loads((folder / "runs" / f"x{apart}" / "report.json").read_text())
    assert saved_report["task"] == "multi_task" and saved_report["main_metric"] == "mean"
    scores = saved_report["models"]["student"]["metrics"]
    wanted = (scores["taste/accuracy"] + scores["length/spearman"] + scores["part/f1"]) / 3
    assert scores["mean"] == pytest.approx(wanted, abs=1e-6)
    assert apart or report.exports[0].agreement > 0.9
    saved = AutoModelForSequenceClassification.from_pretrained(folder / "runs" / f"x{apart}" / "student")
    taste = ["taste/good", "taste/bad"] if apart else ["taste/bad", "taste/good"]
    assert list(saved.config.id2label.values()) == [*taste, "length", *(f"part/LABEL_{i}" for i in range(3))]
    teacher = report.models["teacher"]
    assert teacher.parameters == sum(
        sum(p.numel() for p in AutoModelForSequenceClassification.from_pretrained(path).parameters())
        for path in ([folder / f"of-{name}" for name in WIDTHS] if apart else [folder / "teacher"])
    )


def test_a_batch_has_rows_of_one_task_and_every_row_comes_once(folder):
    kinds = [0] * 50 + [1] * 23 + [2] * 7
    order = LengthGroupedBatchSampler([i % 9 for i in range(80)], 8, groups=kinds)
    batches = order.epoch_batches()
    assert all(len({kinds[row] for row in batch}) == 1 for batch in batches)
    assert sorted(row for batch in batches for row in batch) == list(range(80)) and len(order) == len(batches)
    assert [kinds[batch[0]] for batch in batches] != sorted(kinds[batch[0]] for batch in batches), "they are mixed"
    ranks = [list(LengthGroupedBatchSampler([1] * 80, 8, world_size=2, rank=rank, groups=kinds)) for rank in range(2)]
    for left, right in zip(*ranks, strict=True):
        assert {kinds[row] for row in left} == {kinds[row] for row in right}


def test_one_kind_is_ordered_as_without_kinds():
    lengths = [(7 * i) % 31 for i in range(200)]
    assert (
        LengthGroupedBatchSampler(lengths, 8, groups=[3] * 200).epoch_batches()
        == LengthGroupedBatchSampler(lengths, 8).epoch_batches()
    )


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_goes_through_the_tasks_in_turn(world):
    kinds = [0] * 10 + [1] * 5 + [2] * 4
    batches = [batch for rank in range(world) for batch in sequential_batches(kinds, 4, world, rank)]
    assert sorted(row for batch in batches for row in batch) == list(range(19))
    assert all(len({kinds[row] for row in batch}) == 1 and len(batch) <= -(-4 // world) for batch in batches)


def test_outputs_stand_side_by_side(folder):
    several = task(folder)
    rows, notes = prepare_data(several, AutoTokenizer.from_pretrained(folder / "teacher")), several.notes
    assert not notes and [several.outputs(name) for name in WIDTHS] == [slice(0, 2), slice(2, 3), slice(3, 6)]
    logits = torch.arange(12.0).view(2, 6)
    for number, name in enumerate(WIDTHS):
        batch = {"task": torch.tensor([number] * 2), "labels": torch.tensor([1.0, 0.0], dtype=torch.float64)}
        part = several.select_logits(logits, batch)
        assert part.shape[1] == WIDTHS[name]
        assert torch.equal(several.select_logits(several.expand_logits(part, batch), batch), part)
        assert several.finalize_batch(batch)["labels"].is_floating_point() == (name == "length")
    assert rows["train"]["task"][:] == [0] * 48 + [1] * 48 + [2] * 48


def test_rows_that_another_task_is_validated_on_are_not_trained_on(folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    same = [{"sentence": row["sentence"], "label": row["label"]} for row in sentences(12, 1)]
    more = [{"sentence": row["sentence"], "label": row["label"]} for row in sentences(20, 2)]
    Dataset.from_list(more[:10]).to_parquet(tmp_path / "a" / "train.parquet")
    Dataset.from_list(same).to_parquet(tmp_path / "a" / "validation.parquet")
    Dataset.from_list(same[:5] + more[10:]).to_parquet(tmp_path / "b" / "train.parquet")
    Dataset.from_list(more[:4]).to_parquet(tmp_path / "b" / "validation.parquet")
    parts = {name: Classification(data=str(tmp_path / name), max_length=32) for name in ("a", "b")}
    several = MultiTask(tasks=parts)
    rows, notes = prepare_data(several, AutoTokenizer.from_pretrained(folder / "teacher")), several.notes
    assert rows["train"]["task"][:].count(0) == 6 and rows["train"]["task"][:].count(1) == 10
    assert notes == [
        "a: 4 training rows were left out: they are validation or test rows of other tasks",
        "b: 5 training rows were left out: they are validation or test rows of other tasks",
    ]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"a": Classification(data="x")}, "tasks: needs two or more"),
        (
            {"a": Classification(data="x"), "b": Regression(data="x", batch_size=4)},
            "tasks: b: batch_size: is the same for all",
        ),
        ({"a": Classification(data="x"), "b/c": Regression(data="x")}, "tasks: 'b/c' is not a valid name"),
    ],
)
def test_what_several_tasks_cannot_be(tasks, message):
    with pytest.raises(ValueError, match=message):
        MultiTask(tasks=tasks)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task.tasks.part.data": "/nowhere"}, "task.tasks.part.data: there is no file or folder '/nowhere'"),
        (
            {"task.tasks.taste": {"name": "causal_lm", "data": "x"}},
            "task.tasks.taste.name: no SingleLabelTask 'causal_lm'; there are classification, regression",
        ),
        (
            {"task.tasks.part.unlabelled": "x.csv", "teacher": None},
            "task.tasks.part.unlabelled: needs a teacher",
        ),
        ({"task.tasks.taste.metric": "f2"}, "task.tasks.taste.metric: 'f2' is not one of"),
        (
            {"losses.logits": {"kind": "LogitsMSE"}, "teacher": "{folder}/of-part"},
            "teacher.model: it has 3 outputs",
        ),
        (
            {"teacher": {"members": {"taste": "{folder}/of-taste", "part": "{folder}/of-part"}, "combine": "task"}},
            "teacher.combine: task needs a teacher with the name of each task; the tasks are taste, length, part",
        ),
    ],
)
def test_a_mistake_with_several_tasks(folder, given, message):
    file = folder / "mistake.yaml"
    file.write_text(CONFIG.format(folder=folder, teacher=folder / "teacher"))
    filled = json.loads(json.dumps(given).replace("{folder}", str(folder)))
    with pytest.raises(ConfigError, match=message):
        run(file, **filled)
