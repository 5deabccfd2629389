"""The stand-in answers the real client: what is loaded from it, what is missing, and the cache it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.repositories import save_sst2, save_tiny_bert
from tests.helpers.servers.hub import Hub, commit, entries

ROOT = Path(__file__).parents[3]
CLASSIFIER = "textattack/bert-base-uncased-SST-2"
SCRIPT = """
import json
from datasets import load_dataset
from huggingface_hub import hf_hub_download
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

def error(load, *arguments):
    try:
        load(*arguments)
    except OSError as fault:
        return str(fault)

name = "textattack/bert-base-uncased-SST-2"
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForSequenceClassification.from_pretrained(name)
data = load_dataset("nyu-mll/glue", "sst2")
batch = tokenizer("Zebras, moving; dull 7!", return_tensors="pt")
print(json.dumps({
    "layers": model.config.num_hidden_layers,
    "logits": model(**batch).logits.tolist(),
    "labels": list(model.config.id2label.values()),
    "unknown": tokenizer.unk_token_id in batch["input_ids"][0].tolist(),
    "rows": {split: len(rows) for split, rows in data.items()},
    "classes": data["train"].features["label"].names,
    "first": data["validation"][0],
    "short name": AutoConfig.from_pretrained("bert-base-uncased").num_hidden_layers,
    "no repository": error(AutoConfig.from_pretrained, "nobody/nothing"),
    "no file": error(hf_hub_download, name, "nothing.txt"),
    "no dataset": error(load_dataset, "nobody/nothing"),
}))
"""


def run(environment: dict[str, str]) -> dict:
    """What SCRIPT prints in a process of its own: the client reads its environment when it is imported."""
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict, int]:
    """What SCRIPT found online, then offline, and the number of requests that the second one made."""
    root = tmp_path_factory.mktemp("hub")
    save_tiny_bert(root / "models" / CLASSIFIER, labels=["negative", "positive"])
    save_tiny_bert(root / "models" / "bert-base-uncased", layers=2)
    save_sst2(root / "datasets" / "nyu-mll" / "glue", rows=12)
    with Hub(root) as hub:
        online = run(hub.environment)
        before = len(hub.requests)
        offline = run(hub.environment | {"HF_HUB_OFFLINE": "1"})
        return online, offline, len(hub.requests) - before


def test_model_tokenizer_and_data_are_what_was_saved(answers: tuple[dict, dict, int]) -> None:
    online = answers[0]
    assert online["layers"] == 12
    assert online["short name"] == 2
    assert online["labels"] == ["negative", "positive"]
    assert not online["unknown"], "a letter, digit or mark has no piece of its own"
    assert online["rows"] == {"train": 12, "validation": 3}
    assert online["classes"] == ["negative", "positive"]
    assert online["first"]["label"] == 0


def test_what_is_missing_is_told_as_by_the_hub(answers: tuple[dict, dict, int]) -> None:
    online = answers[0]
    assert "nobody/nothing is not a local folder and is not a valid model" in online["no repository"]
    assert "Entry Not Found for url" in online["no file"]
    assert "'nobody/nothing' doesn't exist on the Hub" in online["no dataset"]


def test_offline_the_cache_gives_the_same_without_a_request(answers: tuple[dict, dict, int]) -> None:
    online, offline, requests = answers
    missing = {"no repository", "no file", "no dataset"}
    assert {key: offline[key] for key in offline.keys() - missing} == {
        key: online[key] for key in online.keys() - missing
    }
    assert all(offline[key] for key in missing)
    assert requests == 0


def test_the_tree_is_listed_by_folder() -> None:
    files = {"README.md": b"12345", "sst2/train.parquet": b"1", "sst2/old/train.parquet": b""}
    top = {(entry["type"], entry["path"], entry["size"]) for entry in entries(files, "", recursive=False)}
    assert top == {("file", "README.md", 5), ("directory", "sst2", 0)}
    assert {entry["path"] for entry in entries(files, "sst2", recursive=True)} == {
        "sst2/train.parquet",
        "sst2/old",
        "sst2/old/train.parquet",
    }
    assert {entry["path"] for entry in entries(files, "sst2", recursive=False)} == {
        "sst2/train.parquet",
        "sst2/old",
    }


def test_a_commit_names_the_content() -> None:
    assert commit({"a": b"1"}) == commit({"a": b"1"})
    assert len({commit({"a": b"1"}), commit({"a": b"2"}), commit({"b": b"1"}), commit({})}) == 4
