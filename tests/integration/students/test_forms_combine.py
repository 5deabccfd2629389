"""Forms combine: every pair is built, trained a step, rounded, cut, saved and loaded; exact ones are the teacher."""

import copy
import itertools

import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from distill.export.export import rounded_weights
from prune_schedules.schedule import Timeline
from prune_schedules.structure.cut import cut
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.quantize import Quantize
from students.attention.local import LocalCore
from students.families.families import blocks
from students.families.linear import is_linear
from students.families.table import FAMILIES
from students.forms.attention import Attention, Linformer, replace_attention
from students.forms.embeddings import Factorised
from students.forms.low_rank import LowRank, select_unfactored
from students.forms.share_layers import ShareLayers
from students.kinds.student import Pretrained
from students.kinds.transformer import Transformer
from students.structure.factored import decompose, get_ranks, rank_of
from students.structure.sharing import group_shared_blocks, share_layers
from students.structure.tensor_train import set_tensor_train, tensor_train_shape, tensor_train_svd
from students.structure.units import neurons
from students.weights import fold
from tests.helpers.families import _auto, batch, low_rank, tiny
from tests.helpers.students.forms import ATTENTIONS, FORMS, build, can_be, key_of, logits, student_of

ONCE = Timeline(total_steps=1, epoch_steps=1)
SPECIAL = list(ATTENTIONS)[1:]
"""Attentions but the first, which are tried with fewer forms and families."""
PAIRS = [
    pair
    for pair in itertools.combinations(FORMS, 2)
    if key_of(pair[0]) != key_of(pair[1]) and not (pair[0] in SPECIAL and pair[1] == "TensorTrain")
]
SETS = [
    *PAIRS,
    ("LocalAttention", "share_layers", "low_rank", "Factorised"),
    ("share_layers", "low_rank", "TensorTrain"),
]
CASES = [
    (family, *names)
    for names in SETS
    for family in (("bert", "gpt2") if names[0] in SPECIAL else ("bert", "gpt2", "t5", "llama"))
    if all(can_be(name, family) for name in names)
]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_forms_are_trained_rounded_cut_saved_and_loaded_together(case, tmp_path):
    family, *names = case
    inputs = batch(family)
    model = build(student_of(*names), tiny(family, layers=3), [inputs])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()(**inputs).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.numel())
    optimizer.step()
    with torch.no_grad():
        for units in neurons(model):
            for part in units.slices:
                rows = getattr(part.module, part.name).movedim(part.axis, 0)
                rows[part.start : part.start + 3 * part.size] = 0
    quantize = Quantize()
    quantize.attach(model)
    quantize.update(0, ONCE)
    quantize.enabled = True
    rounded = logits(model, inputs)
    quantize.quantize_full_embeddings()
    fold(model)
    torch.testing.assert_close(logits(model, inputs), rounded, rtol=0, atol=1e-5)
    quantize.remove_input_hooks()
    folded = logits(model, inputs)
    report = cut(model)
    assert all(report.units[units.name] == (64, 61) for units in neurons(model))
    expected = logits(model, inputs)
    torch.testing.assert_close(expected, folded, rtol=0, atol=1e-5)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    drawn = {name for name, _ in model.named_buffers()}
    weights = [weight for name, weight in saved.items() if name not in drawn]
    assert sum(weight.numel() for weight in weights) == model.num_parameters(), "each weight is saved once"
    loaded, loading = _auto(family, "classification").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    torch.testing.assert_close(logits(loaded, inputs), expected, rtol=0, atol=1e-5)
    assert loaded.num_parameters() == model.num_parameters() and torch.equal(
        logits(copy.deepcopy(model), inputs), expected
    )
    assert {key for key in ("attention", "share_layers", "ranks", "embeddings") if getattr(loaded.config, key)} == {
        FORMS[name].key for name in names
    }


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_where_every_form_is_exact_the_student_is_the_teacher(family):
    """A window as long as the text, a group for each block, full rank; in the order in which forms are applied."""
    teacher = tiny(family, layers=3)
    model = copy.deepcopy(teacher)
    replace_attention(model, {"kind": "LocalAttention", "window": 64, "global_tokens": 1})
    model.config.attention = {"kind": "LocalAttention"}
    model.config._attn_implementation = "replaced"
    share_layers(model, {"shared_modules": "all", "blocks": {next(iter(FAMILIES[family].stacks)): [0, 1, 2]}})
    for modules in select_unfactored(model, ["attention", "ffn"]).values():
        decompose(modules, min(modules[0].weight.shape))
    table = model.get_input_embeddings().weight.detach()
    sizes = tensor_train_shape(*table.shape, 10**6)
    cores = tensor_train_svd(table, sizes)
    set_tensor_train(model, sizes)
    for core, numbers in zip(model.get_input_embeddings().cores, cores, strict=True):
        core.weight.data.copy_(numbers)
    assert all(rank_of(block_linear(block)) for block in blocks(model))
    torch.testing.assert_close(logits(model, batch(family)), logits(teacher, batch(family)), rtol=0, atol=3e-4)


def block_linear(block: nn.Module) -> nn.Module:
    return next(module for module in block.modules() if is_linear(module))


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_shared_layers_are_factored_once_and_from_their_mean(family):
    """The factors are nearest to the mean of the blocks, as those of a student that shares and then is factored."""
    teacher = tiny(family, layers=3)
    mean = build(student_of("share_layers"), teacher)
    model = build(student_of("share_layers", "low_rank"), teacher)
    assert [len(group) for group in group_shared_blocks(blocks(model))] == [3]
    same = dict(mean.named_modules())
    for path, module in model.named_modules():
        if rank_of(module) and not isinstance(module, nn.Embedding) and ".0." in path:
            turned = module.weight.shape[0] == 6
            product = (
                module.input_factor.weight.T @ module.weight if turned else module.weight @ module.input_factor.weight
            )
            dense = same[path].weight
            left, values, right = torch.linalg.svd(dense.double(), full_matrices=False)
            nearest = left[:, :6] * values[:6] @ right[:6]
            torch.testing.assert_close(product.double(), nearest, rtol=0, atol=1e-5)


def test_blocks_that_share_all_layers_share_what_an_attention_learns():
    model = build(student_of("Linformer", "share_layers"), tiny("bert", layers=3))
    assert len({id(block.attention.self.core_attention.keys) for block in blocks(model)}) == 1
    apart = Transformer(attention=Linformer(length=8), share_layers=ShareLayers(shared_modules="ffn"))
    assert (
        len({id(block.attention.self.core_attention.keys) for block in blocks(build(apart, tiny("bert", layers=3)))})
        == 3
    )


def test_all_at_random_starts_as_one_block_does():
    """The mean of random blocks would be too small."""
    torch.manual_seed(0)
    student = Transformer(layers=12, weights="random", share_layers=ShareLayers(), embeddings=Factorised(rank=8))
    model = student.build(tiny("bert"), None, None)
    assert 0.015 < float(blocks(model)[0].output.dense.weight.std()) < 0.025


@pytest.mark.slow  # a whole run has the file of all forms, in tests/integration/runs/test_forms.py
@pytest.mark.parametrize("family", ["bert", "t5"])
def test_the_onnx_files_of_all_forms_compute_what_training_did(family, tmp_path):
    """And hold each shared weight once, in 8 bits."""
    names = [name for name in ("LocalAttention", "share_layers", "low_rank", "Factorised") if can_be(name, family)]
    # Of seed 0 an input of T5 lies so near the middle of two levels that the CPU decides which it gets.
    model, inputs = build(student_of(*names), tiny(family, layers=2)), batch(family, seed=1)
    inputs.pop("decoder_attention_mask", None)  # the file asks for none
    quantize = Quantize()
    quantize.attach(model)
    quantize.update(0, ONCE)
    quantize.enabled = True
    training = logits(model, inputs)
    quantize.quantize_full_embeddings()
    fold(model)
    quantize.remove_input_hooks()
    export_onnx(model, inputs, tmp_path / "whole.onnx")
    longer = batch(family, size=2, length=19)
    longer.pop("decoder_attention_mask", None)
    torch.testing.assert_close(OnnxModel(tmp_path / "whole.onnx")(longer), logits(model, longer), rtol=0, atol=1e-4)
    # Only what training rounded: the position biases of T5 stay float32.
    quantize_onnx(tmp_path / "whole.onnx", tmp_path / "int8.onnx", rounded_weights(model, quantize))
    torch.testing.assert_close(OnnxModel(tmp_path / "int8.onnx")(inputs), training, rtol=0, atol=1e-5)
    matrices = [tensor for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer if len(tensor.dims) == 2]
    int8 = [tensor for tensor in matrices if tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)]
    linear = {id(m.weight) for m in model.modules() if is_linear(m)}
    assert len(int8) >= len(linear)


def test_a_model_that_exists_takes_forms_too(tmp_path):
    tiny("bert", layers=3).save_pretrained(tmp_path / "stock")
    model = build(Pretrained(model=str(tmp_path / "stock"), share_layers=ShareLayers()), None)
    expected = build(student_of("share_layers"), tiny("bert", layers=3))
    assert torch.equal(logits(model, batch("bert")), logits(expected, batch("bert")))
    model.save_pretrained(tmp_path / "shared")
    more = {"low_rank": FORMS["low_rank"], "embeddings": FORMS["Factorised"]}
    second = build(Pretrained(model=str(tmp_path / "shared"), **more), None)
    expected = build(student_of("share_layers", "low_rank", "Factorised"), tiny("bert", layers=3))
    torch.testing.assert_close(logits(second, batch("bert")), logits(expected, batch("bert")), rtol=0, atol=1e-5)
    second.save_pretrained(tmp_path / "both")
    loaded = build(Pretrained(model=str(tmp_path / "both")), None)
    assert torch.equal(logits(loaded, batch("bert")), logits(second, batch("bert"))) and get_ranks(loaded) == get_ranks(
        second
    )


def test_a_head_that_low_rank_has_is_told_once():
    """T5's embeddings are its head: they are one matrix, whichever of the two forms names it."""
    both = low_rank(["attention", "head", "embeddings"], rule={"rank": 8})
    with pytest.warns(UserWarning, match="embeddings: factored with the head by low_rank already"):
        model = both.build(tiny("t5", head="language"), None, None)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


class Looking(Attention):
    """An attention from outside: each token sees itself and the one before it."""

    encoder_only = ""

    def module(self, config, head_size):
        return LocalCore(2, 0)


def test_an_attention_from_outside_is_saved_and_loaded(tmp_path):
    model = build(Transformer(attention=Looking(), low_rank=LowRank(rank=6)), tiny("bert"))
    model.save_pretrained(tmp_path)
    loaded = build(Pretrained(model=str(tmp_path)), None)
    assert loaded.config.attention == {"kind": "Looking"}
    torch.testing.assert_close(logits(loaded, batch("bert")), logits(model, batch("bert")), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="^attention: 'Gone' is not known; import the module that defines it first"):
        replace_attention(model, {"kind": "Gone"})
    with pytest.raises(ValueError, match="^attention: .* does not fit LocalAttention"):
        replace_attention(model, {"kind": "LocalAttention", "windows": 4})
