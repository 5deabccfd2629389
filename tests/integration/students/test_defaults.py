"""Every kind of student, with nothing said of it: its defaults are for models of usual sizes."""

import inspect

import pytest
import torch

from students.kinds.student import Pretrained, Student
from students.kinds.transformer import Transformer
from tests.helpers.families import batch, tiny


def kinds(base: type = Student) -> list[type]:
    """The classes of students that can be made, but for one that exists already."""
    classes = [] if inspect.isabstract(base) or base.__name__.startswith("_") or base is Pretrained else [base]
    return classes + [kind for child in base.__subclasses__() for kind in kinds(child)]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_kind_needs_nothing_but_a_teacher(kind):
    teacher = tiny("bert", hidden=384, heads=12, intermediate=768, vocab=2000)
    teacher = Transformer(max_position_embeddings=512).build(teacher, None, None).eval()
    student = kind().build(teacher, None, None).eval()
    with torch.no_grad():
        output = student(
            **{key: value for key, value in batch("bert").items() if key in ("input_ids", "attention_mask")}
        )
    assert output.logits.shape == (3, 3) and output.logits.isfinite().all()
    assert student.config.num_labels == 3 and student.dtype == torch.float32
