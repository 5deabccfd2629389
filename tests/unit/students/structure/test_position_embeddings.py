"""Students that read longer or shorter texts than their teacher: its table of places repeated, or its beginning."""

import pytest
import torch

from students.forms.attention import Linformer
from students.kinds.recurrent import LSTM
from students.kinds.student import Pretrained
from students.kinds.transformer import Transformer
from tests.helpers.families import batch, tiny
from tests.helpers.students.built import repositioned

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama"])
def test_a_model_that_exists_is_given_places(name, tmp_path):
    teacher = tiny(name)
    teacher.save_pretrained(tmp_path)
    model = Pretrained(model=str(tmp_path), max_position_embeddings=120).build(None, None, None).eval()
    inputs = batch(name, length=100)
    torch.testing.assert_close(logits(model, inputs), logits(repositioned(teacher), inputs))


def test_a_model_of_a_form_of_its_own_keeps_its_places(tmp_path):
    Transformer(attention=Linformer(length=16)).build(tiny("bert"), None, None).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="^max_position_embeddings: a compact model keeps its positions"):
        Pretrained(model=str(tmp_path), max_position_embeddings=200).build(None, None, None)
    with pytest.raises(ValueError, match="^max_position_embeddings: at least 1 is needed, not 0"):
        Pretrained(model=str(tmp_path), max_position_embeddings=0)


def test_a_recurrent_network_has_none_to_be_given(tmp_path):
    LSTM(hidden=8).build(tiny("bert"), None, None).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="^max_position_embeddings: a recurrent network reads texts of any length$"):
        Pretrained(model=str(tmp_path), max_position_embeddings=200).build(None, None, None)


def test_places_are_left_out():
    assert repositioned(tiny("bert"), 20).bert.embeddings.position_embeddings.num_embeddings == 20


def test_what_has_no_places_is_refused():
    with pytest.raises(ValueError, match="^max_position_embeddings: at least 1 is needed, not 0"):
        Transformer(max_position_embeddings=0)
    with pytest.raises(ValueError, match="^max_position_embeddings: a t5 has relative positions"):
        Transformer(max_position_embeddings=99).check(tiny("t5").config)
