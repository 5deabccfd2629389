"""Students cut from a teacher: the same model, the right blocks, its config and mode, and what is refused."""

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from students.kinds.transformer import Transformer
from tests.helpers.families import tiny, tiny_config
from tests.helpers.students.built import build, logits


def test_t5_keeps_the_position_bias_of_its_first_block():
    teacher = tiny("t5", layers=4)
    student = build(teacher, layers=2)
    key = "transformer.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert torch.equal(student.state_dict()[key], teacher.state_dict()[key])


def test_a_shared_block_runs_less_often():
    teacher = tiny("albert", layers=4)
    student = build(teacher, layers=2)
    shorter = copy.deepcopy(teacher)
    shorter.config.num_hidden_layers = shorter.albert.encoder.config.num_hidden_layers = 2
    assert torch.equal(logits(student), logits(shorter))
    with pytest.raises(ValueError, match=r"^teacher_layers: the teacher runs one block many times"):
        build(teacher, teacher_layers=[1, 2])
    with pytest.raises(ValueError, match=r"^teacher_layers: the teacher runs one block many times"):
        build(teacher, layers=2, teacher_layers="top")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_teacher_gives_a_float32_student(dtype):
    teacher = tiny("bert").to(dtype)
    teacher.config.dtype = dtype
    for fields in ({}, {"hidden": 16}, {"weights": "random"}):
        student = build(teacher, **fields)
        assert {weight.dtype for weight in student.parameters()} == {torch.float32}
        assert student.config.dtype == torch.float32
    assert torch.equal(build(teacher).classifier.weight, teacher.classifier.weight.float())


def test_the_task_is_in_the_config_and_the_head_is_kept():
    student = Transformer().build(tiny("bert"), {0: "a", 1: "b", 2: "c"}, "single_label_classification")
    assert student.config.id2label == {0: "a", 1: "b", 2: "c"} and student.config.label2id["c"] == 2
    assert student.config.problem_type == "single_label_classification"
    assert torch.equal(student.classifier.weight, tiny("bert").classifier.weight)


@pytest.mark.parametrize("hidden", [None, 16])
def test_another_number_of_labels_gives_a_fresh_head_and_a_warning(hidden):
    with pytest.warns(UserWarning, match="newly initialized: classifier.bias, classifier.weight"):
        student = Transformer(hidden=hidden).build(tiny("bert"), None, "regression")
    assert student.classifier.weight.shape == (1, hidden or 32) and student.classifier.bias.tolist() == [0]


def test_tied_weights_stay_tied():
    student = build(tiny("gpt2", head="language"), hidden=16)
    assert student.lm_head.weight is student.transformer.wte.weight


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"layers": 0}, "layers: at least 1"),
        ({"hidden": 310, "heads": 12}, "heads: 12 heads do not divide a hidden size of 310"),
        ({"weights": "copied"}, "weights: 'teacher' or 'random'"),
        ({"layers": 2, "teacher_layers": [1, 2, 3]}, "teacher_layers: names 3 blocks, not 2"),
        ({"teacher_layers": []}, "teacher_layers: names 0 blocks, not one or more"),
        ({"teacher_layers": [1], "weights": "random"}, "teacher_layers: no block"),
        ({"teacher_layers": "top", "weights": "random"}, "teacher_layers: no block"),
    ],
)
def test_a_field_that_is_always_wrong(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Transformer(**fields)


@pytest.mark.parametrize(
    "name, fields, message",
    [
        ("bert", {"layers": 5}, "layers: the teacher has 4 blocks, not 5"),
        ("t5", {"layers": 5}, "layers: the teacher has 4 blocks, not 5"),
        ("bert", {"layers": 5, "teacher_layers": "top"}, "layers: the teacher has 4 blocks, not 5"),
        ("bert", {"teacher_layers": [0, 4]}, "teacher_layers: the teacher has blocks 1 to 4, not 0, 4"),
        ("bert", {"teacher_layers": [1, 5]}, "teacher_layers: the teacher has blocks 1 to 4, not 1, 5"),
        ("bert", {"hidden": 64}, "hidden: the teacher has 32, not 64"),
        ("gpt2", {"intermediate": 65}, "intermediate: the teacher has 64, not 65"),
        ("distilbert", {"heads": 8}, "heads: the teacher has 4, not 8"),
        ("bert", {"hidden": 18}, "heads: 4 heads do not divide a hidden size of 18"),
        ("bert", {"heads": 2}, "heads: 2 heads in a hidden size of 32 are 16 wide, the teacher's 8"),
        ("llama", {"heads": 1}, "heads: 1 is no multiple of 2, the heads that share a key"),
        ("t5", {"heads": 2}, "heads: those of a t5 are bound together, as by one position bias, so its 4 heads stay"),
    ],
)
def test_what_does_not_fit_the_teacher_is_told_from_its_config_alone(name, fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Transformer(**fields).check(tiny_config(name, layers=4))


def test_a_teacher_with_blocks_of_different_sizes_is_refused():
    config = tiny_config("bert")
    config.model_type = "compact-bert"
    with pytest.raises(ValueError, match="compact teacher"):
        Transformer().check(config)


def test_a_t5_whose_heads_do_not_divide_its_hidden_size():
    config = tiny_config("t5", heads=4)
    config.num_heads = 6  # as in flan-t5-small
    teacher = AutoModelForSequenceClassification.from_config(config)
    assert logits(build(teacher, hidden=16)).shape == (3, 3)


def test_without_a_teacher():
    for call in (lambda: Transformer().check(None), lambda: Transformer().build(None, None, None)):
        with pytest.raises(ValueError, match="cut from a teacher: name one, or name a model"):
            call()
