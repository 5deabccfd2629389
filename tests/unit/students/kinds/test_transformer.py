"""Students cut from a teacher: the same model, the right blocks, its config and mode, and what is refused."""

import copy
import warnings

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from students.families.families import blocks, depth
from students.families.table import FAMILIES as FACTS
from students.kinds.transformer import Transformer
from tests.helpers.families import FAMILIES, batch, tiny, tiny_config


def build(teacher, **fields):
    """A student with the teacher's labels; a newly initialized weight is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return Transformer(**fields).build(teacher, None, None)


def logits(model):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(**batch(model.config.model_type)).logits


def sizes(name):
    """Smaller sizes that fit every family (T5 keeps its heads, ELECTRA's embeddings are 16 wide)."""
    return {"layers": 2, "hidden": 24, "intermediate": 40} | ({} if name == "t5" else {"heads": 4})


@pytest.mark.parametrize("head", ["classification", "language"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_student_of_full_size_is_the_teacher(name, head):
    teacher = tiny(name, head=head)
    student = build(teacher)
    assert type(student) is type(teacher)
    inputs = batch(name, head=head)
    with torch.no_grad():
        assert torch.equal(student.eval()(**inputs).logits, teacher(**inputs).logits)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_smaller_student_is_saved_and_loaded_by_plain_transformers(name, tmp_path):
    student = build(tiny(name, layers=4), **sizes(name))
    assert depth(student.config) == 2 and student.config.hidden_size == 24
    assert getattr(student.config, FACTS[name].intermediate) == 40
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


@pytest.mark.parametrize("name", FAMILIES)
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


@pytest.mark.parametrize("name", FAMILIES)
def test_a_random_student_may_be_deeper_and_wider(name):
    teacher = tiny(name, layers=1)
    student = build(teacher, layers=3, hidden=64, heads=8, intermediate=128, weights="random")
    assert depth(student.config) == 3 and logits(student).shape == (3, 3)
    same_size = build(teacher, weights="random").state_dict()
    assert not any(torch.equal(weight, same_size[key]) for key, weight in teacher.state_dict().items())


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
        ("t5", {"heads": 2}, "heads: the blocks of a t5 share one position bias, so its 4 heads stay"),
    ],
)
def test_what_does_not_fit_the_teacher_is_told_from_its_config_alone(name, fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Transformer(**fields).check(tiny_config(name, layers=4))


def test_a_teacher_with_blocks_of_different_sizes_is_refused():
    config = tiny_config("bert")
    config.model_type = "compact-bert"
    with pytest.raises(ValueError, match="form of its own"):
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
