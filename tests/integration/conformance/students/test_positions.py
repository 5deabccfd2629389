"""A student that reads longer texts than its teacher, in every family with position embeddings."""

import pytest
import torch

from students.families.families import family
from tests.helpers.families import FAMILIES, batch, tiny
from tests.helpers.students.built import repositioned

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "t5"])
def test_places_are_repeated(name):
    teacher = tiny(name)
    model = repositioned(teacher)
    assert type(model) is type(teacher)
    if path := family(teacher.config).position_embeddings:
        before, after = (owner.base_model.get_submodule(path).weight for owner in (teacher, model))
        first = 2 if name == "roberta" else 0
        assert torch.equal(after[:66], before) and torch.equal(after[66:], before[first : first + len(after) - 66])
        assert len(after) == 120 + first
    assert torch.equal(logits(model, batch(name)), logits(teacher, batch(name)))
    assert logits(model, batch(name, length=120)).isfinite().all()
