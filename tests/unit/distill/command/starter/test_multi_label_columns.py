"""The first config of a multi-label model names the columns of its labels, whatever their form."""

import json
from pathlib import Path

import pytest
from transformers import BertConfig

from distill.command.starter.facts import look_at
from distill.command.starter.recipe import starter_config
from distill.config.errors import ConfigError
from distill.experiment.runs import read_runs
from tests.helpers.repositories import save_model, save_tokenizer
from tests.helpers.tables import write

NAMES = ["Praise", "blame", "thing"]
HELD = [["Praise"], [], ["blame", "thing"]] * 7
TEXTS = {
    "json": [json.dumps(names) for names in HELD],
    "bars": ["|".join(names) for names in HELD],
    "commas": [", ".join(names) for names in HELD],
    "one": [(names or [""])[0] for names in HELD],
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    sizes = {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 32}
    config = BertConfig(vocab_size=save_tokenizer(tmp_path / "model"), **sizes)
    config.problem_type = "multi_label_classification"
    save_model(tmp_path / "model", config, NAMES)
    monkeypatch.chdir(tmp_path)
    return "model"


def columns(model: str, rows: list[dict], label: str | None = None) -> dict:
    """The columns that are found; the config with them can be read."""
    write(Path("rows.jsonl"), rows)
    facts = look_at(model, "rows.jsonl", label)
    assert facts.task == "multi_label"
    Path("x.yaml").write_text(starter_config(model, "rows.jsonl", facts, "cpu"))
    (config,) = read_runs("x.yaml", {})
    found = config.value.task
    assert {key: getattr(found, key) for key in facts.columns} == facts.columns
    return facts.columns


def test_a_column_for_each_output(model: str) -> None:
    rows = [
        {"text": f"film {i}", "n": i} | {name.lower(): int(name in held) for name in NAMES}
        for i, held in enumerate(HELD)
    ]
    assert columns(model, rows) == {"text": "text", "label": ["praise", "blame", "thing"]}


def test_lists_wherever_they_are(model: str) -> None:
    rows = [{"text": f"film {i}", "about": held} for i, held in enumerate(HELD)]
    assert columns(model, rows) == {"text": "text", "label": "about"}


@pytest.mark.parametrize(
    ("form", "found"),
    [("json", {}), ("bars", {"separator": "|"}), ("commas", {"separator": ","}), ("one", {"separator": "|"})],
)
def test_texts_that_list_labels(model: str, form: str, found: dict) -> None:
    rows = [{"text": f"film {i}", "tags": cell} for i, cell in enumerate(TEXTS[form])]
    assert columns(model, rows) == {"text": "text", "label": "tags"} | found
    rows = [{"text": f"film {i}", "x": cell} for i, cell in enumerate(TEXTS[form])]
    with pytest.raises(ConfigError, match="which column has the labels"):
        columns(model, rows)
    assert columns(model, rows, "x") == {"text": "text", "label": "x"} | found
