"""Static models against a plain computation in float64."""

import torch
from transformers import AutoModelForSequenceClassification

from students.models.static_models import StaticConfig, StaticForSequenceClassification
from tests.helpers.students.recurrent import padded


def small(**given) -> StaticForSequenceClassification:
    """A small static model in eval mode."""
    torch.manual_seed(0)
    config = StaticConfig(vocab_size=60, embedding_size=6, num_labels=3, **{"units": 5, **given})
    return StaticForSequenceClassification(config).eval()


def test_logits_are_those_of_the_mean_of_the_embeddings():
    model, (ids, mask) = small(), padded()
    weights = {name: parameter.detach().double() for name, parameter in model.named_parameters()}
    expected = []
    for row, length in zip(ids, mask.sum(1), strict=True):
        mean = sum(weights["encoder.embeddings.weight"][token] for token in row[:length]) / length
        neurons = (weights["dense.weight"] @ mean + weights["dense.bias"]).clamp(min=0)
        expected.append(weights["classifier.weight"] @ neurons + weights["classifier.bias"])
    torch.testing.assert_close(model(ids, mask).logits.double(), torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_without_units_the_head_is_linear():
    model, (ids, mask) = small(units=0), padded()
    assert [name for name, _ in model.named_parameters() if "dense" in name] == []
    vectors = model.encoder(ids, mask).pooler_output
    torch.testing.assert_close(model(ids, mask).logits, model.classifier(vectors))


def test_neither_padding_nor_the_batch_nor_the_order_of_tokens_changes_a_text():
    model, (ids, mask) = small(), padded()
    together = model(ids, mask).logits
    for row, length, logits in zip(ids, mask.sum(1), together, strict=True):
        torch.testing.assert_close(model(row[None, :length]).logits[0], logits)
        torch.testing.assert_close(model(row[None, :length].flip(1)).logits[0], logits)
    torch.testing.assert_close(model(ids.flip(1), mask.flip(1)).logits, together)


def test_a_row_without_tokens_is_finite():
    assert small()(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long)).logits.isfinite().all()


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model, (ids, mask) = small(), padded()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(ids, mask).logits, model(ids, mask).logits)
