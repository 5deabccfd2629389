"""What a student drops in training: nothing, or more than its teacher, in every family."""

import pytest
import torch
from transformers import PreTrainedModel

from students.forms.attention import LinearAttention
from students.forms.share_layers import ShareLayers
from students.kinds.recurrent import GRU
from students.kinds.student import Pretrained
from students.kinds.transformer import Transformer
from tests.helpers.families import batch, tiny


def moves(model: PreTrainedModel, name: str) -> bool:
    """Whether two passes in train mode differ."""
    given = {key: value for key, value in batch(name).items() if key != "labels"}
    with torch.no_grad():
        first, second = (model.train()(**given).logits for _ in range(2))
    return not torch.equal(first, second)


def test_a_student_drops_what_it_is_told(name):
    teacher = tiny(name)
    before = teacher.config.to_dict()
    assert not moves(Transformer(dropout=0.0).build(teacher, None, None), name)
    assert moves(Transformer(dropout=0.5).build(teacher, None, None), name)
    assert teacher.config.to_dict() == before
    same = Transformer().build(teacher, None, None).config.to_dict()
    assert {key: same[key] for key in same if "drop" in key} == {key: before[key] for key in before if "drop" in key}


@pytest.mark.parametrize(
    "kind, forms",
    [(Transformer, {"share_layers": ShareLayers(), "attention": LinearAttention()}), (GRU, {})],
    ids=["forms", "GRU"],
)
def test_so_does_one_of_another_kind(kind, forms):
    for dropout in (0.0, 0.5):
        assert moves(kind(dropout=dropout, **forms).build(tiny("bert"), None, None), "bert") == (dropout > 0)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_and_one_that_exists(name, tmp_path):
    tiny(name).save_pretrained(tmp_path)
    for dropout in (None, 0.0, 0.5):
        student = Pretrained(model=str(tmp_path), dropout=dropout).build(None, None, None)
        assert moves(student, name) == (dropout != 0.0)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_what_is_no_share_is_refused(dropout):
    for kind in (Transformer, GRU):
        with pytest.raises(ValueError, match=f"^dropout: must be a probability, from 0 to below 1, not {dropout}"):
            kind(dropout=dropout)
