"""The example of a server answers as ``load`` does, and says what it cannot read."""

import importlib.util
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from transformers import AutoConfig, AutoModelForSequenceClassification

from distill import load
from distill.export.serving.deployment import Deployment
from distill.tasks.kinds.texts import Classification
from tests.helpers.repositories import save_tiny_bert

EXAMPLE = Path(__file__).parents[3] / "docs" / "guide" / "serve.py"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    student = tmp_path / "student"
    save_tiny_bert(student, layers=1, hidden=24, heads=4, labels=["bad", "good"])
    AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(student)).save_pretrained(student)
    columns = {"": {"text": "text", "label": "label"}}
    Deployment(imports=[], task=Classification(data="x"), columns=columns, labels={}, name="x").write(student)
    monkeypatch.setenv("RUN", str(tmp_path))
    spec = importlib.util.spec_from_file_location("serve", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return TestClient(module.app)


def test_the_server_answers_and_refuses(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/health").json() == {"file": str(tmp_path / "student"), "columns": ["text"]}
    texts = ["a fine film", "dull"]
    answers = client.post("/predict", json={"texts": texts}).json()
    assert [answer["label"] for answer in answers] == [answer["label"] for answer in load(tmp_path)(texts)]
    refused = client.post("/predict", json={"texts": [["one", "two"]]})
    assert refused.status_code == 422 and "is not a text" in refused.json()["detail"]
    assert client.post("/predict", json={"texts": []}).status_code == 422
