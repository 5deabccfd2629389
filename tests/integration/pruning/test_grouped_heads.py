"""Heads where all share one key, which go one by one, and those of T5's cross-attention, which have no bias."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.structure.cut import FIXED_HEADS, cut
from students.families.families import blocks
from students.kinds.transformer import Transformer
from students.recording.signals import Signals
from students.recording.trace import Recorder
from students.structure.units import heads
from students.weights import fold
from tests.helpers.families import LLAMAS, _auto, batch, everything, tiny, tiny_config
from tests.helpers.pruning.models import learns, mask, without

TIMELINE = Timeline(total_steps=10, epoch_steps=10)
ONE_KEY = ("llama", *LLAMAS)


def one_key(name, queries=4, layers=2):
    """A tiny language model whose query heads share one key."""
    config = tiny_config(name, layers=layers, heads=queries)
    config.num_key_value_heads = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.2) if parameter.ndim > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("name", ONE_KEY)
def test_half_of_the_query_heads_go_where_all_share_a_key(name, tmp_path):
    model, inputs = one_key(name), batch(name, length=12, head="language")
    assert [units.count for units in heads(model)] == [4, 4]
    pruner = mask(model, 0.5, "heads")
    assert pruner.current_sparsity() == 0.5
    masked = logits(model, inputs)
    fold(model)
    report = cut(model)
    assert report.units["decoder.0.self"] == report.units["decoder.1.self"] == (4, 2) and report.is_stock
    torch.testing.assert_close(logits(model, inputs), masked, rtol=0, atol=1e-5)
    assert (model.config.num_attention_heads, model.config.num_key_value_heads) == (2, 1)
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(logits(loaded, inputs), masked, rtol=0, atol=1e-5)
    assert learns(model.train(), inputs)


@pytest.mark.parametrize("gone", [1, 3, 4])
def test_blocks_with_other_numbers_of_query_heads_and_with_none(gone, tmp_path):
    """With nothing left of an attention, its key and value go too."""
    model, inputs = one_key("llama"), batch("llama", head="language")
    units = heads(model)[1]
    keep = torch.arange(4) >= gone
    with torch.no_grad():
        for (module, name), (axis, stay) in units.kept_entries(keep).items():
            shape = [-1 if i == axis else 1 for i in range(getattr(module, name).ndim)]
            getattr(module, name).mul_(stay.view(shape))
    before = logits(model, inputs)
    report = cut(model)
    assert report.units["decoder.1.self"] == (4, 4 - gone) and not report.is_stock
    torch.testing.assert_close(logits(model, inputs), before, rtol=0, atol=1e-5)
    attention = blocks(model)[1].self_attn
    assert attention.q_proj.out_features == 8 * (4 - gone)
    assert attention.k_proj.out_features == (0 if gone == 4 else 8)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded, inputs), before, rtol=0, atol=1e-5)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(logits(model, inputs), before, rtol=0, atol=1e-4)


def test_the_whole_attention_of_one_key_goes_with_its_key():
    model, inputs = one_key("llama", layers=3), batch("llama", head="language")
    without(model, {"layers": 0.5})
    masked = logits(model, inputs)
    fold(model)
    cut(model)
    torch.testing.assert_close(logits(model, inputs), masked, rtol=0, atol=1e-5)
    gone = [block.self_attn for block in blocks(model) if block.self_attn.q_proj.out_features == 0]
    assert all(attention.k_proj.out_features == attention.v_proj.out_features == 0 for attention in gone)


def test_groups_go_whole_and_one_that_is_left_is_still_a_group(tmp_path):
    model, inputs = tiny("llama"), batch("llama")
    mask(model, 0.5, "heads")
    masked = logits(model, inputs)
    fold(model)
    report = cut(model)
    assert report.units["decoder.0.self"] == (2, 1) and report.is_stock
    assert (model.config.num_attention_heads, model.config.num_key_value_heads) == (2, 1)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded, inputs), masked, rtol=0, atol=1e-5)
    # Cut again, it has one key, and query heads that go one by one.
    assert [units.count for units in heads(loaded)] == [2, 2]


def test_a_student_takes_query_heads_of_a_teacher_with_one_key():
    teacher, inputs = one_key("qwen2"), batch("qwen2", head="language")
    student = Transformer(heads=2).build(teacher, None, None, AutoModelForCausalLM)
    assert (student.config.num_attention_heads, student.config.num_key_value_heads) == (2, 1)
    pruned = copy.deepcopy(teacher)
    mask(pruned, 0.5, "heads")
    torch.testing.assert_close(logits(student.eval(), inputs), logits(pruned, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shares", [{"heads": 0.5}, {"heads": 0.5, "neurons": 0.3, "elements": 0.2}])
@pytest.mark.parametrize("head", ["classification", "language"])
def test_heads_of_cross_attention_are_cut_and_those_with_a_bias_stay(head, shares, tmp_path):
    model, inputs = tiny("t5", layers=3, head=head), batch("t5", head=head)
    without(model, shares)
    masked = logits(model, inputs)
    fold(model)
    report = cut(model)
    assert [report.units[f"decoder.{i}.cross"] for i in range(3)] == [(4, 2)] * 3
    assert [report.units[f"decoder.{i}.self"] for i in range(3)] == [(4, 4)] * 3
    assert report.skipped["decoder.1.self"] == f"2 heads are zero but stay: {FIXED_HEADS}"
    torch.testing.assert_close(logits(model, inputs), masked, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = _auto("t5", head).from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded, inputs), masked, rtol=0, atol=1e-5)
    assert learns(model.train(), inputs)


@pytest.mark.parametrize("counts", [(4, 2, 3), (1, 4, 2), (2, 0, 4)])
def test_cross_attentions_of_all_numbers_of_heads_run_recorded_and_write(counts, tmp_path):
    """A bias of zeros, as many as the first has heads, is handed from block to block."""
    model, inputs = tiny("t5", layers=3, head="language"), batch("t5", head="language")
    crosses = [units for units in heads(model) if units.name.endswith(".cross")]
    with torch.no_grad():
        for units, count in zip(crosses, counts, strict=True):
            for (module, name), (axis, stay) in units.kept_entries(torch.arange(4) < count).items():
                getattr(module, name).mul_(stay.view([-1 if i == axis else 1 for i in range(2)]))
    before = logits(model, inputs)
    cut(model)
    torch.testing.assert_close(logits(model, inputs), before, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = _auto("t5", "language").from_pretrained(tmp_path)
    rows = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    written = [network.generate(**rows, max_new_tokens=6, do_sample=False) for network in (model, loaded)]
    without_cache = model.generate(**rows, max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(written[0], written[1]) and torch.equal(written[0], without_cache)
    asked = everything(model.config)
    gone = {("cross", i) for i, count in enumerate(counts, 1) if not count}
    given = {key: value for key, value in inputs.items() if key != "labels"}
    if gone:
        with pytest.raises(ValueError, match="attention: no head is left in layer 2 of the cross"):
            Recorder(model).trace(given, asked)
    signals = Signals(logits=True, attention=asked.attention - gone)
    trace = Recorder(model).trace(given, signals)
    torch.testing.assert_close(trace.logits, before, rtol=0, atol=1e-5)
    widths = [trace.attention["cross", i].query.shape[1] for i, count in enumerate(counts, 1) if count]
    assert widths == [count for count in counts if count]


def test_pruning_them_by_what_they_do_leaves_t5_with_fewer():
    model = tiny("t5", layers=2)
    pruner = Magnitude(sparsity=Constant(0.25), shape="heads")
    pruner.attach(model)
    pruner.update(0, TIMELINE)
    assert pruner.current_sparsity() == 0.25
