"""Data, tokenizers and models of which some fit one another; shared by the tests of what is checked before a run."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
)

from distill.config.errors import ConfigError
from distill.experiment.runs import read_runs
from distill.tasks.task import Task
from distill.training.prepare.plan import Plan, plan
from tests.helpers.repositories import save_model, save_tokenizer, sentences
from tests.helpers.tables import write

CONFIG = """\
task: {{name: classification, data: {folder}/data, text: text, batch_size: 8, max_length: 100}}
teacher: {teacher}
student: {{kind: Transformer, layers: 1}}
losses: {{logits: {{kind: Logits}}}}
trainer: {{max_epochs: 1, accelerator: cpu}}
output: {folder}/runs
"""
NAMES = ["negative", "positive"]
LEARNT = 0.9


def save_data(folder: Path, name: str, labels: list) -> None:
    """Reviews whose label, of 0 and 1, is written as one of ``labels``; validation are the first of training."""
    (folder / name).mkdir(exist_ok=True)
    for split, count in {"train": 96, "validation": 24}.items():
        rows = [{"text": row["sentence"], "label": labels[row["label"]]} for row in sentences(96, 0)[:count]]
        write(folder / name / f"{split}.jsonl", rows)


def save_fitted(folder: Path, names: list[str], order: list[int], **config: object) -> None:
    """A random encoder whose output ``order[i]`` was fitted, by least squares, to the reviews of label i."""
    sizes = {"num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96}
    save_model(folder, BertConfig(**({"vocab_size": save_tokenizer(folder)} | sizes | config)), names)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = sentences(96, 0)
    given = tokenizer([row["sentence"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model.eval().bert(**given).pooler_output
        wanted = torch.full((len(rows), len(names)), -1.0)
        for row, label in enumerate(row["label"] for row in rows):
            wanted[row, order[label]] = 1.0
        states, wanted = torch.cat([states, torch.ones(len(rows), 1)], 1).double(), wanted.double()
        solution = torch.linalg.solve(states.T @ states + 1e-6 * torch.eye(states.shape[1]), states.T @ wanted)
        model.classifier.weight.copy_(solution[:-1].T)
        model.classifier.bias.copy_(solution[-1])
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews with texts and with numbers as labels; teachers whose outputs are named, turned, or not named."""
    folder = tmp_path_factory.mktemp("fit")
    save_data(folder, "data", NAMES)
    save_data(folder, "numbers", [0, 1])
    save_data(folder, "moods", ["sad", "happy"])
    write(folder / "words.jsonl", [{"text": "one zebra", "label": name} for name in NAMES] * 10)
    save_fitted(folder / "named", NAMES, [0, 1])
    save_fitted(folder / "turned", ["POSITIVE", "Negative "], [1, 0])
    save_fitted(folder / "unnamed", ["LABEL_0", "LABEL_1"], [0, 1])
    save_fitted(folder / "three", ["positive", "mixed", "negative"], [2, 0])
    return folder


def planned(folder: Path, teacher_name: str, **given: object) -> tuple[Plan, Task]:
    """A run before its first step, and its task; the teacher is a folder's name, or a text with one of the folder."""
    file = folder / "x.yaml"
    file.write_text(
        CONFIG.format(
            folder=folder, teacher=teacher_name.format(folder) if "{" in teacher_name else folder / teacher_name
        )
    )
    (config,) = read_runs(file, given)
    return plan(config, folder / "runs" / "x"), config.value.task


def refused(folder: Path, teacher_name: str, **given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        planned(folder, teacher_name, **given)
    assert "\n" not in str(caught.value)
    assert not (folder / "runs").exists()
    return str(caught.value)
