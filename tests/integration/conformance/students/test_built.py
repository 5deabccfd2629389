"""A student of every family is cut from its teacher: the same model, the right blocks, saved and loaded."""

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from students.families.families import blocks, depth, intermediate_size
from students.families.table import FAMILIES as FACTS
from tests.helpers.families import FAMILIES, batch, tiny
from tests.helpers.students.built import build, logits


def sizes(name):
    """Smaller sizes that fit every family (T5 keeps its heads, ELECTRA's embeddings are 16 wide)."""
    return {"layers": 2, "hidden": 24, "intermediate": 40} | ({} if name == "t5" else {"heads": 4})


@pytest.mark.parametrize("head", ["classification", "language"])
def test_a_student_of_full_size_is_the_teacher(name, head):
    teacher = tiny(name, head=head)
    student = build(teacher)
    assert type(student) is type(teacher)
    inputs = batch(name, head=head)
    with torch.no_grad():
        assert torch.equal(student.eval()(**inputs).logits, teacher(**inputs).logits)


def test_a_smaller_student_is_saved_and_loaded_by_plain_transformers(name, tmp_path):
    student = build(tiny(name, layers=4), **sizes(name))
    assert depth(student.config) == 2 and student.config.hidden_size == 24
    assert intermediate_size(student.config) == 40
    student.save_pretrained(tmp_path)
    loaded, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(logits(loaded), logits(student), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "albert"])
@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"layers": 2}, [2, 4]),
        ({"layers": 3}, [1, 3, 4]),
        ({"teacher_layers": [4, 1, 1]}, [4, 1, 1]),
        ({"layers": 3, "teacher_layers": "bottom"}, [1, 2, 3]),
        ({"layers": 3, "teacher_layers": "top"}, [2, 3, 4]),
        ({"layers": 2, "teacher_layers": "even"}, [2, 4]),
    ],
)
def test_the_blocks_are_those_asked_for(name, fields, expected):
    teacher = tiny(name, layers=4)
    student = build(teacher, **fields)
    for stack in FACTS[name].stacks:
        assert depth(student.config, stack) == len(expected)
        for block, number in zip(blocks(student, stack), expected, strict=True):
            source = blocks(teacher, stack)[number - 1].state_dict()
            for key, weight in block.state_dict().items():
                if "relative_attention_bias" not in key:
                    assert torch.equal(weight, source[key]), (stack, number, key)


def test_the_student_trains_and_the_teacher_stays_as_it_is(name):
    teacher = tiny(name, layers=2)
    config, before = teacher.config.to_dict(), copy.deepcopy(teacher.state_dict())
    student = build(teacher, layers=1)
    assert all(module.training for module in student.modules())
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(1)
    assert not any(module.training for module in teacher.modules())
    assert teacher.config.to_dict() == config
    assert all(torch.equal(weight, before[key]) for key, weight in teacher.state_dict().items())


def test_a_random_student_may_be_deeper_and_wider(name):
    teacher = tiny(name, layers=1)
    student = build(teacher, layers=3, hidden=64, heads=8, intermediate=128, weights="random")
    assert depth(student.config) == 3 and logits(student).shape == (3, 3)
    same_size = build(teacher, weights="random").state_dict()
    assert not any(torch.equal(weight, same_size[key]) for key, weight in teacher.state_dict().items())
