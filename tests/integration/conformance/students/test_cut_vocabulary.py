"""Models of every family with a smaller vocabulary predict the same for the tokens that stay."""

import pytest
import torch

from students.recording.model_io import model_inputs, output_logits
from students.tokenizer.vocabulary import cut_vocabulary
from tests.helpers.families import batch, tiny

KEEP = torch.tensor([0, 1, 2, 3, *range(5, 100, 3), 99])


def predictions(model, given):
    with torch.no_grad():
        return output_logits(model(**model_inputs(model, given)))


def renumbered(given: dict, keep: torch.Tensor) -> tuple[dict, dict]:
    """A batch of kept tokens alone, and the same in the new numbers."""
    new = torch.full((100,), -1)
    new[keep] = torch.arange(len(keep))
    ids = {name: keep[given[name] % len(keep)] for name in ("input_ids", "decoder_input_ids") if name in given}
    for name in ids:  # padding and ends of text where they were
        ids[name] = torch.where(given[name] < 5, given[name], ids[name].clamp(min=5))
    return given | ids, given | {name: new[value] for name, value in ids.items()}


@pytest.mark.parametrize("head", ["classification", "language"])
def test_a_cut_model_says_the_same(name, head, tmp_path):
    model = tiny(name, head=head)
    old, new = renumbered(batch(name, head=head), KEEP)
    before, tied = predictions(model, old), model.get_output_embeddings()
    tied = tied is not None and tied.weight is model.get_input_embeddings().weight
    cut_vocabulary(model, KEEP)
    expected = before[..., KEEP] if head == "language" else before
    assert torch.equal(predictions(model, new), expected)
    assert {len(KEEP)} == {config.vocab_size for config in (model.config, model.config.get_text_config())}
    if head == "language":
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    model.save_pretrained(tmp_path)
    assert torch.equal(predictions(type(model).from_pretrained(tmp_path).eval(), new), expected)


def test_nothing_of_the_old_size_is_left(name):
    model = tiny(name, head="language")
    cut_vocabulary(model, KEEP)
    assert not [name for name, p in model.named_parameters() if 100 in p.shape]
