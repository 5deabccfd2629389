"""Labels of new rows mean what they meant in the run, whatever the classes are called."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from distill import load
from distill.export.serving.deployment import Deployment
from distill.export.serving.labelled import evaluate_file
from distill.tasks.kinds.texts import Classification
from tests.helpers.repositories import GOOD, save_tokenizer
from tests.helpers.tables import write


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["1", "2", "3", "4", "5"], {"1": "1", "2": "2", "3": "3", "4": "4", "5": "5"}),
        (["1", "0", "2"], {"0": "0", "1": "1", "2": "2"}),
        (["bad", "good", "2"], {"0": "good", "1": "bad", "2": "2"}),
        (["LABEL_0", "LABEL_1", "LABEL_2"], {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}),
    ],
)
@pytest.mark.parametrize("kind", [int, str])
def test_a_label_is_the_output_that_it_was(
    tmp_path: Path, names: list[str], labels: dict[str, str], kind: type
) -> None:
    student = tmp_path / "student"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=save_tokenizer(student),
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=32,
        id2label=dict(enumerate(names)),
    )
    config.initializer_range = 1.0
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(student)
    Deployment(
        imports=[],
        task=Classification(data="x", text="text"),
        columns={"": {"text": "text", "label": "label"}},
        labels={"": {value: names.index(name) for value, name in labels.items()}},
        name="x",
    ).write(student)
    values = list(labels)
    rows = [{"text": word, "label": kind(values[i % len(values)])} for i, word in enumerate(GOOD * 2)]
    write(tmp_path / "rows.jsonl", rows)
    tokenizer, right = AutoTokenizer.from_pretrained(student), 0
    for row in rows:
        output = int(model(**tokenizer(row["text"], return_tensors="pt")).logits.argmax())
        right += names[output] == labels[str(row["label"])]
    evaluated = evaluate_file(load(tmp_path), str(tmp_path / "rows.jsonl"))
    assert evaluated.result.metrics["accuracy"] == pytest.approx(right / len(rows))
    assert evaluated.rows == len(rows)
