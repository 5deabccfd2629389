"""Students with another attention: built from a teacher, padded, saved, traced, cut, asked to write, exported."""

import copy
import warnings

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from losses.pairs.attention import AttentionKL, AttentionScores
from losses.pairs.relations import Relations
from prune_schedules.structure.cut import cut
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from students.families.families import blocks, family, is_causal
from students.forms.attention import (
    BlockAttention,
    EfficientAttention,
    FixedAttention,
    LinearAttention,
    Linformer,
    LocalAttention,
    Performer,
)
from students.kinds.transformer import Transformer
from students.recording.signals import Signals
from students.recording.trace import Recorder
from students.structure.units import heads, shrink
from tests.helpers.families import FAMILIES, batch, everything, tiny
from tests.helpers.traces import first

KINDS = {
    LocalAttention: {"window": 8},
    FixedAttention: {"block": 4, "summaries": 1},
    BlockAttention: {"blocks": 4},
    LinearAttention: {},
    Performer: {"features": 24},
    EfficientAttention: {},
    Linformer: {"length": 16},
}
"""Small ones, that are another attention than the teacher's on 100 tokens."""
ENCODING = (BlockAttention, EfficientAttention, Linformer)


Full = None
"""Full attention, and the same places."""


PAIRS = [
    (kind, name)
    for kind in KINDS
    for name in FAMILIES
    if name != "t5" and not (kind in ENCODING and name in ("gpt2", "llama"))
]
EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
EVERY = pytest.mark.parametrize("kind, name", PAIRS, ids=[f"{kind.__name__}-{name}" for kind, name in PAIRS])


def student(kind, name="bert", head="classification", teacher=None, **fields):
    """In eval mode; anything but the attention that would start at random is an error."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        given = {"attention": kind(**KINDS[kind])} if kind else {}
        built = Transformer(**given | {"max_position_embeddings": 120} | fields)
        return built.build(teacher or tiny(name, head=head), None, None).eval()


def long(name, size=3, length=100, **given):
    """Rows of 100, 98 and so on tokens."""
    return batch(name, size=size, length=length, **given)


def logits(model, inputs):
    with torch.no_grad():
        return model(**{key: value for key, value in inputs.items() if key != "labels"}).logits


@EVERY
def test_a_row_is_the_same_alone_and_beside_longer_ones(kind, name):
    model, inputs = student(kind, name), long(name, size=40)
    together = logits(model, inputs)
    for row in (1, 30, 39):
        length = int(inputs["attention_mask"][row].sum())
        alone = {key: value[row : row + 1, :length] for key, value in inputs.items() if value.ndim == 2}
        torch.testing.assert_close(logits(model, alone)[0], together[row], rtol=0, atol=1e-5)


@EVERY
def test_full_attention_never_comes_back(kind, name, tmp_path):
    """Whoever asks for it: an exporter, a recorder, a loader; of the model, of the one inside, of the config."""
    model, inputs = student(kind, name), long(name)
    expected = logits(model, inputs)
    assert (expected - logits(student(Full, name), inputs)).abs().max() > 1e-3
    model.set_attn_implementation("eager")
    torch.testing.assert_close(logits(model, inputs), expected, rtol=0, atol=1e-5)
    model.base_model.set_attn_implementation("sdpa")
    assert torch.equal(logits(model, inputs), expected)
    model.config._attn_implementation = "sdpa"
    assert torch.equal(logits(model, inputs), expected)
    recorder = Recorder(model)
    with torch.no_grad():
        assert torch.equal(recorder.trace(inputs, everything(model.config)).logits, expected)
        assert torch.equal(recorder.trace(inputs, Signals(logits=True)).logits, expected)
    recorder.close()
    assert torch.equal(logits(model, inputs), expected)
    assert torch.equal(logits(copy.deepcopy(model), inputs), expected)
    model.save_pretrained(tmp_path)
    for asked in (None, "eager", "sdpa"):
        loaded, report = AutoModelForSequenceClassification.from_pretrained(
            tmp_path, attn_implementation=asked, output_loading_info=True
        )
        assert type(loaded) is type(model) and not any(report.values()), report
        torch.testing.assert_close(logits(loaded, inputs), expected, rtol=0, atol=1e-5)
    bare = AutoModel.from_pretrained(tmp_path).eval()
    inputs.pop("labels")
    with torch.no_grad():
        states = [inner(**inputs).last_hidden_state for inner in (model.base_model, bare)]
    assert torch.equal(*states)


@EVERY
def test_no_mask_over_pairs_is_made(kind, name, monkeypatch):
    """It would cost what is to be saved; tokens that are no text are hidden all the same."""
    model = student(kind, name)
    for module in ("students.attention.interface", "transformers.masking_utils"):
        monkeypatch.setattr(f"{module}.sdpa_mask", None)
    assert logits(model, long(name)).isfinite().all()
    assert logits(model, {"input_ids": long(name)["input_ids"][:1]}).isfinite().all()


@EVERY
def test_what_losses_compare_is_what_attention_is_given(kind, name):
    """Queries, keys and values of the first layer are the teacher's, so losses on them are nothing there."""
    teacher = student(Full, name)
    model, inputs = student(kind, name), long(name)
    stack = next(iter(family(teacher.config).stacks))
    signals = Signals(attention=frozenset({(stack, 1)}))
    traces = [Recorder(each).trace(inputs, signals) for each in (model, teacher)]
    mine, theirs = (trace.attention[stack, 1] for trace in traces)
    torch.testing.assert_close(mine.probabilities(), theirs.probabilities())
    traces = [Recorder(each).trace(inputs, everything(each.config)) for each in (model, teacher)]
    for loss, nothing in (
        (AttentionScores(layers={1: 1}), True),
        (AttentionKL(layers={1: 1}), True),
        (Relations(layers={1: 1}), True),
        (Relations(layers={2: 2}), False),
    ):
        loss.setup(model.config, teacher.config)
        total, count = loss(*traces, inputs, first(loss))
        assert total.isfinite() and (total / count < 1e-5) == nothing


@EACH
def test_gradients_reach_everything(kind):
    model, inputs = student(kind).train(), long("bert")
    model(**inputs).loss.backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name


@EACH
def test_in_half_precision_it_says_nearly_the_same(kind):
    model, inputs = student(kind), long("bert")
    expected = logits(model, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = logits(model, inputs)
    assert found.isfinite().all() and (found - expected).abs().max() < 0.2
    assert logits(model.bfloat16(), inputs).isfinite().all()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", [LocalAttention, FixedAttention, LinearAttention, Performer])
def test_a_decoder_does_not_see_what_comes(kind, name):
    model, inputs = student(kind, name, head="language"), long(name, size=1, head="language")
    other = inputs["input_ids"].clone()
    other[:, 60:] = 7
    found, changed = (logits(model, {"input_ids": ids}) for ids in (inputs["input_ids"], other))
    torch.testing.assert_close(found[:, :60], changed[:, :60], rtol=0, atol=1e-5)
    assert not torch.allclose(found[:, 60:], changed[:, 60:], atol=1e-2)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", [LocalAttention, FixedAttention, LinearAttention, Performer])
def test_it_writes_the_same_with_a_cache_and_without(kind, name):
    model = student(kind, name, head="language", teacher=tiny(name, head="language"))
    ids = long(name, size=1, length=30, head="language")["input_ids"]
    given = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = model.generate(ids, use_cache=False, **given)
    assert torch.equal(model.generate(ids, **given), expected)
    padded = torch.cat([torch.zeros(1, 9, dtype=torch.long), ids], 1)
    mask = (torch.arange(39) >= 9).long()[None]
    if kind is FixedAttention:
        with pytest.raises(ValueError, match="pad on the right"):
            model.generate(padded, attention_mask=mask, **given)
    else:
        assert torch.equal(model.generate(padded, attention_mask=mask, **given)[:, 9:], expected)
    with pytest.raises(ValueError, match="a cache of fixed size"):
        model.generate(ids, cache_implementation="static", **given)


def test_several_texts_in_one_row_are_refused():
    positions = torch.cat([torch.arange(6), torch.arange(4)])[None]
    with pytest.raises(ValueError, match="several texts in one row"):
        student(LocalAttention, "llama")(input_ids=torch.full((1, 10), 9), position_ids=positions, use_cache=False)


def test_a_mask_of_pairs_is_refused():
    with pytest.raises(ValueError, match="takes no mask of token pairs"):
        student(LocalAttention)(torch.full((1, 10), 9), torch.ones(1, 1, 10, 10))


@EVERY
def test_heads_are_cut_out(kind, name, tmp_path):
    """What is left of the attention goes on as before."""
    model, inputs = student(kind, name), long(name)
    units = heads(model)[-1]
    with torch.no_grad():
        for part in units.slices:
            rows = getattr(part.module, part.name).movedim(part.axis, 0)
            rows[part.start : part.start + part.size] = 0
    expected = logits(model, inputs)
    report = cut(model)
    assert report.units[units.name] == (units.count, units.count - 1)
    torch.testing.assert_close(logits(model, inputs), expected, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(loaded, inputs), expected, rtol=0, atol=1e-5)


@EACH
def test_all_heads_of_a_layer_are_cut_out(kind, tmp_path):
    model, inputs = student(kind), long("bert")
    units = heads(model)[0]
    shrink(units, torch.zeros(units.count, dtype=torch.bool))
    assert logits(model, inputs).isfinite().all()


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama"])
def test_with_defaults_a_window_is_the_teacher_on_short_texts(name):
    teacher = tiny(name)
    model = Transformer(attention=LocalAttention()).build(teacher, None, None).eval()
    torch.testing.assert_close(logits(model, batch(name)), logits(teacher, batch(name)), rtol=0, atol=1e-5)


def test_blocks_may_be_fewer_and_started_anywhere():
    model = student(LocalAttention, layers=1, hidden=16, heads=2, weights="random")
    assert len(blocks(model)) == 1 and not is_causal(model.config)
    assert model.config.attention == {"kind": "LocalAttention", "window": 8, "global_tokens": 1}


@pytest.mark.parametrize(
    "kind, fields, name, message",
    [
        (LocalAttention, {"window": 0}, "bert", "window: at least 2 is needed, not 0"),
        (LocalAttention, {"window": 9}, "bert", "window: must be even, with half of it on each side, not 9"),
        (LocalAttention, {"global_tokens": -1}, "bert", "global_tokens: at least 0 is needed, not -1"),
        (FixedAttention, {"summaries": 0}, "bert", "summaries: at least 1"),
        (FixedAttention, {"block": 4, "summaries": 5}, "bert", "summaries: a block has 4 tokens, not 5"),
        (BlockAttention, {"blocks": 0}, "bert", "blocks: at least 1"),
        (BlockAttention, {"blocks": 5}, "bert", "blocks: at most 4 are possible with 4 heads, not 5"),
        (Performer, {"features": 0}, "bert", "features: at least 1"),
        (Linformer, {"length": 0}, "bert", "length: at least 1"),
        (Linformer, {"length": 67}, "bert", "length: the student reads 66 tokens, fewer than 67"),
        (Linformer, {}, "gpt2", "kind: Linformer is for encoders only, not for a gpt2: a projected key mixes"),
        (BlockAttention, {}, "llama", "kind: BlockAttention is for encoders only, not for a llama: its blocks attend"),
        (EfficientAttention, {}, "gpt2", "kind: EfficientAttention is for encoders"),
        (LocalAttention, {}, "t5", "kind: a t5 has a relative position bias, which LocalAttention does not support"),
    ],
)
def test_what_does_not_fit_is_refused(kind, fields, name, message):
    with pytest.raises(ValueError, match=f"^(attention: )?{message}"):
        Transformer(attention=kind(**fields)).check(tiny(name).config)


@pytest.mark.parametrize(
    "kind, name",
    [
        *((kind, "bert") for kind in KINDS),
        pytest.param(FixedAttention, "llama", marks=pytest.mark.slow),
        pytest.param(LinearAttention, "gpt2", marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_its_onnx_file_reads_any_length(kind, name, tmp_path):
    """Shorter and longer texts than the one it was written with; int8 leaves products of activations alone."""
    model = student(kind, name, teacher=tiny(name, layers=1))
    export_onnx(model, batch(name, length=7), tmp_path / "model.onnx")
    run = OnnxModel(tmp_path / "model.onnx")
    for size, length in ((1, 2), (3, 40), (2, 120)):
        inputs = batch(name, size=size, length=length)
        torch.testing.assert_close(run(inputs), logits(model, inputs), rtol=0, atol=1e-5)
    quantize_onnx(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    assert (OnnxModel(tmp_path / "int8.onnx")(inputs) - logits(model, inputs)).abs().max() < 0.3


def test_a_saved_decoder_writes_the_same(tmp_path):
    model = student(LocalAttention, "gpt2", head="language")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    inputs = long("gpt2", head="language")
    torch.testing.assert_close(logits(loaded, inputs), logits(model, inputs), rtol=0, atol=1e-6)
