"""Lists of a config with an entry for each block follow the blocks that are taken, and windows stay windows."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from distill.training.callbacks.replace import block_groups
from students.families.families import blocks
from students.families.layer_lists import layer_lists, select_layers
from students.forms.attention import LinearAttention
from students.forms.share_layers import ShareLayers
from students.kinds.transformer import Transformer
from students.recording.signals import Signals
from students.recording.trace import Recorder
from tests.helpers.families import LLAMAS, WINDOWED, batch, tiny, tiny_config

FULL, SLIDING = "full_attention", "sliding_attention"
LISTED = [name for name in WINDOWED if name != "mistral"]


def long_batch(name, head="language"):
    """Rows of 24 tokens, six windows long."""
    return batch(name, length=24, head=head)


def logits(model, inputs, attention=None):
    model = copy.deepcopy(model).eval()
    if attention:
        model.set_attn_implementation(attention)
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize(
    "fields, kinds",
    [
        ({"layers": 2}, [FULL, FULL]),  # blocks 2 and 4
        ({"teacher_layers": "bottom", "layers": 3}, [SLIDING, FULL, SLIDING]),
        ({"teacher_layers": [4, 1, 1]}, [FULL, SLIDING, SLIDING]),
        ({"layers": 6, "weights": "random"}, [SLIDING, SLIDING, FULL, SLIDING, SLIDING, FULL]),
    ],
)
def test_kinds_of_attention_are_those_of_the_blocks_that_are_taken(name, fields, kinds, tmp_path):
    teacher = tiny(name, layers=4, head="language")
    student = Transformer(**fields).build(teacher, None, None, AutoModelForCausalLM)
    assert student.config.layer_types == kinds
    student.save_pretrained(tmp_path)
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert loaded.config.layer_types == kinds
    inputs = long_batch(name)
    torch.testing.assert_close(logits(loaded, inputs), logits(student, inputs), rtol=0, atol=1e-6)
    assert teacher.config.layer_types == [SLIDING, FULL] * 2


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_is_seen_while_attention_is_recorded(name):
    """Logits of rows longer than the window are those of plain eager attention, and others without a window."""
    model, inputs = tiny(name, layers=4, head="language"), long_batch(name)
    expected = logits(model, inputs, "eager")
    full_model = copy.deepcopy(model)
    full_model.config.sliding_window = 64
    assert (logits(full_model, inputs, "eager") - expected).abs().max() > 1e-2
    sites = frozenset({("decoder", 1), ("decoder", 2)}) if model._supports_sdpa else frozenset()
    rows = {key: value for key, value in inputs.items() if key != "labels"}
    trace = Recorder(model).trace(rows, Signals(logits=True, attention=sites))
    valid = inputs["attention_mask"].bool()
    torch.testing.assert_close(trace.logits[valid], expected[valid], rtol=0, atol=2e-5)
    for (_, layer), attention in trace.attention.items():
        seen = attention.visible()[0, 0].sum(-1)
        windowed = name == "mistral" or layer == 1
        assert seen.max() == (4 if windowed else 24)


@pytest.mark.parametrize("name", LLAMAS)
@pytest.mark.parametrize("head", ["language", "classification"])
def test_a_smaller_student_of_a_family_like_llama_is_loaded_by_plain_transformers(name, head, tmp_path):
    auto = AutoModelForCausalLM if head == "language" else AutoModelForSequenceClassification
    teacher = tiny(name, layers=4, head=head)
    inputs = long_batch(name, head)
    assert torch.equal(logits(Transformer().build(teacher, None, None, auto), inputs), logits(teacher, inputs))
    student = Transformer(layers=2, hidden=24, heads=2, intermediate=40).build(teacher, None, None, auto)
    assert [block.self_attn.head_dim for block in blocks(student)] == [8, 8]  # as wide as the teacher's
    student.save_pretrained(tmp_path)
    loaded, report = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(logits(loaded, inputs), logits(student, inputs), rtol=0, atol=1e-6)


def test_lists_are_known_by_their_length_and_not_by_their_names():
    config = tiny_config("bert", layers=2)
    config.windows_of_each, config.eos_token_id, config.of_three = [7, None], [1, 3], [1, 2, 3]
    config.architectures = ["A", "B"]
    assert layer_lists(config) == {"windows_of_each": [7, None]}
    select_layers(config, {"encoder": [2, 2, 1]})
    assert config.windows_of_each == [None, None, 7] and config.num_hidden_layers == 3
    assert config.eos_token_id == [1, 3] and config.architectures == ["A", "B"] and config.of_three == [1, 2, 3]


def test_a_block_takes_the_place_of_blocks_of_its_kind_alone():
    teacher = tiny("qwen3", layers=4)
    student = Transformer(layers=2).build(teacher, None, None)
    why = "block 1 of the student has layer_types full_attention, the teacher's blocks 1 to 2.*sliding_attention"
    with pytest.raises(ValueError, match=why):
        block_groups(student, teacher)
    assert len(block_groups(Transformer().build(teacher, None, None), teacher)) == 4


def test_attention_that_knows_no_windows_is_refused_where_there_are_some():
    student = Transformer(layers=2, teacher_layers="bottom", attention=LinearAttention()).build(
        tiny("qwen3", layers=4), None, None
    )
    with pytest.raises(ValueError, match="windows of its own"):
        Recorder(student).trace(long_batch("qwen3"), Signals(logits=True))


def test_shared_blocks_keep_their_kinds():
    student = Transformer(layers=4, share_layers=ShareLayers()).build(tiny("qwen3", layers=4), None, None)
    assert student.config.layer_types == [SLIDING, FULL] * 2


def test_a_list_of_two_stacks_of_one_depth_is_followed_once():
    config = tiny_config("t5", layers=2)
    config.windows_of_each = [7, 9]
    select_layers(config, {"encoder": [2, 1], "decoder": [2, 1]})
    assert config.windows_of_each == [9, 7] and (config.num_layers, config.num_decoder_layers) == (2, 2)
