"""Layers in two factors: against singular values in float64, the teacher at full rank, and the model that is loaded."""

import copy
import pickle
import warnings

import onnx
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from prune_schedules.schedule import Timeline
from quant_aware.export.onnx import export_onnx, quantize_onnx
from quant_aware.export.onnx_model import OnnxModel
from quant_aware.quantize import Quantize
from students.families.linear import is_linear
from students.forms.low_rank import LowRank, select_unfactored
from students.kinds.transformer import Transformer
from students.models.record import record_sizes
from students.recording.input_grams import collect_initial_grams, damp
from students.structure.factored import (
    apply_ranks,
    decompose,
    get_ranks,
    input_weighted_svd,
    rank_components,
    rank_of,
    truncated_svd,
)
from students.structure.units import heads, neurons, shrink
from students.tokenizer.vocabulary import cut_vocabulary
from students.weights import fold, select_modules
from tests.helpers.families import FAMILIES, Head, _auto, batch, low_rank, tiny

ALL = ["attention", "ffn", "embeddings", "head"]


def build(name: str, head: Head = "classification", **fields) -> PreTrainedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return student_of(**fields).build(tiny(name, head=head), None, None).eval()


def student_of(**fields) -> Transformer:
    """The fields of a rule, and those of the base."""
    rule = {key: fields.pop(key) for key in ("rank", "param_ratio", "energy") if key in fields}
    return low_rank(rule=rule, **fields)


def logits(model: PreTrainedModel, name: str, head: Head = "classification") -> torch.Tensor:
    return logits_of(model, batch(name, head=head))


def logits_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**{key: value for key, value in inputs.items() if key != "labels"}).logits


def test_a_truncation_is_the_nearest_of_its_rank():
    """Eckart and Young: what is lost are the squares of the singular values left out."""
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(weight.double())
    for rank in (1, 7, 24):
        left, right = truncated_svd(weight, rank)
        assert left.shape == (24, rank) and right.shape == (rank, 40)
        lost = (weight.double() - left.double() @ right.double()).square().sum()
        torch.testing.assert_close(lost, values[rank:].square().sum(), rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))


@pytest.mark.parametrize("size", [(24, 40), (40, 24)], ids=str)
def test_a_weighted_one_is_the_nearest_in_what_it_makes_of_inputs(size):
    """Against the truncation of W L, for inputs of very different scales, fewer of them than there are dimensions."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(*size, generator=draw)
    read = torch.randn(20, size[1], generator=draw) * torch.logspace(-2, 2, size[1])
    gram = read.T @ read
    lower = torch.linalg.cholesky(damp(gram))

    values = torch.linalg.svdvals(weight.double() @ lower)
    for rank in (1, 7, 23):
        left, right = input_weighted_svd(weight, rank, gram)
        assert left.shape == (size[0], rank) and right.shape == (rank, size[1])
        error, plain = (
            weight.double() - a.double() @ b.double() for a, b in ((left, right), truncated_svd(weight, rank))
        )
        torch.testing.assert_close((error @ lower).square().sum(), values[rank:].square().sum(), rtol=1e-3, atol=0)
        assert (error @ read.T.double()).norm() < (plain @ read.T.double()).norm()
        torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))
    left, right = input_weighted_svd(weight, 24, gram)
    torch.testing.assert_close(left @ right, weight, rtol=0, atol=1e-4)
    assert all(part.isfinite().all() for part in input_weighted_svd(weight * 0, 3, gram * 0))


@pytest.mark.parametrize("head", ["classification", "language"])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_layers_read_makes_their_outputs_nearer(name, head):
    """Of each layer in a block, over positions that are not padding; what is outside stays the plain truncation."""
    inputs, fields = batch(name, head=head), {"param_ratio": 0.5, "where": ALL}
    teacher, plain = tiny(name, head=head), build(name, head, **fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        student = student_of(batches=1, **fields).build(tiny(name, head=head), None, None, batches=iter([inputs, None]))
    assert student.training and get_ranks(student) == get_ranks(plain)
    chosen = {path: modules[0] for path, modules in select_unfactored(teacher, ALL).items()}
    actual = collect_initial_grams(teacher, list(chosen.values()), [inputs])
    inner = select_modules(teacher, ["attention", "ffn"])[0]
    for path, layer in chosen.items():
        errors = []
        for model in (student, plain):
            module = model.get_submodule(path)
            thin = module.output_factor if hasattr(module, "output_factor") else getattr(module, "input_factor", None)
            if thin is None:
                continue
            turned, table = isinstance(module, Conv1D), isinstance(module, nn.Embedding)
            pair = (module.weight, thin.weight.T if table else thin.weight)
            product = pair[1].T @ pair[0] if turned else pair[0] @ pair[1]
            errors.append((layer.weight - product).T if turned else layer.weight - product)
        if path not in inner:
            assert not errors or torch.equal(*errors)
        elif errors:
            lost, before = (torch.einsum("oi,ij,oj", error, actual[layer], error) for error in errors)
            assert lost < before


def test_the_data_is_read_in_the_students_own_mode_and_attention_and_leaves_nothing():
    model = tiny("bert").train()
    before = model.config._attn_implementation, torch.get_rng_state()
    collect_initial_grams(model, [model.bert.encoder.layer[0].intermediate.dense], [batch("bert")])
    assert model.training and model.config._attn_implementation == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("head", ["classification", "language"])
@pytest.mark.parametrize("name", FAMILIES)
def test_of_full_rank_it_is_the_teacher(name, head):
    model = tiny(name, head=head)
    before, size = logits(model, name, head), model.num_parameters()
    for modules in select_unfactored(model, ALL).values():
        decompose(modules, min(modules[0].weight.shape))
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    # T5's position bias is in its blocks.
    assert sum(rank_of(table) is not None for table in tables) == len(tables) - 2 * (name == "t5")
    assert model.num_parameters() > size
    torch.testing.assert_close(logits(model, name, head), before, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_layer_has_the_numbers_that_may_stay(name):
    teacher, student = tiny(name), build(name, param_ratio=0.5)
    full_model = select_modules(teacher, ["attention", "ffn"])[0]
    for path, module in select_modules(student, ["attention", "ffn"])[0].items():
        if path not in full_model:
            continue
        out, size = sorted(full_model[path].weight.shape)
        rank = out * size // (2 * (out + size))
        assert rank_of(module) == rank
        assert module.weight.numel() + module.input_factor.weight.numel() == rank * (out + size)
    # Pooler and head are as they were, and so are biases.
    assert {p.shape for n, p in student.named_parameters() if n.endswith("bias")} == {
        p.shape for n, p in teacher.named_parameters() if n.endswith("bias")
    }


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_it_starts_as_the_truncation_of_what_a_transformer_student_has(name):
    fields = {"layers": 1, "intermediate": 48}
    full_model, student = Transformer(**fields).build(tiny(name), None, None), build(name, rank=5, **fields)
    layers = select_modules(full_model, ["attention", "ffn"])[0]
    actual = dict(student.named_modules())
    for path, layer in layers.items():
        turned = isinstance(layer, Conv1D)
        weight, first = ((module.weight.T if turned else module.weight) for module in (layer, actual[path]))
        left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
        nearest = left[:, :5] * values[:5] @ right[:5]
        torch.testing.assert_close(
            first.double() @ actual[path].input_factor.weight.double(), nearest, rtol=0, atol=1e-5
        )


def test_energy_is_what_is_left_of_the_squares():
    student, full_model = build("bert", energy=0.6), tiny("bert")
    chosen = select_modules(full_model, ["attention", "ffn"])[0]
    actual = {path: rank_of(student.get_submodule(path)) for path in chosen}
    assert len(set(actual.values())) > 1
    for path, rank in actual.items():
        squares = torch.linalg.svdvals(chosen[path].weight.double()).square()
        assert squares[:rank].sum() >= 0.6 * squares.sum() > squares[: rank - 1].sum()


def test_layers_that_would_be_no_smaller_stay_whole_and_are_told():
    # 19 is the last rank whose factors of 32 by 64 are smaller, and 15 the last of 32 by 32.
    with pytest.warns(
        UserWarning, match="stay at full rank, as two factors would be no smaller: .*query.*, .*key"
    ) as info:
        student = low_rank(rule={"rank": 16}).build(tiny("bert"), None, None)
    assert "intermediate" not in str(info[0].message)
    assert [path for path, module in student.bert.encoder.layer[0].named_modules() if rank_of(module)] == [
        "intermediate.dense",
        "output.dense",
    ]
    with pytest.raises(ValueError, match="^low_rank: rank: 22 makes no layer in attention, ffn smaller$"):
        build("bert", rank=22)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"rank": 0}, "rank: at least 1 is needed, not 0"),
        ({"param_ratio": 1.0}, "param_ratio: must lie between 0 and 1, not 1.0"),
        ({"energy": -0.5}, "energy: must lie between 0 and 1, not -0.5"),
        ({"rank": 4, "energy": 0.9}, "energy: rank is set already; set one of them"),
        ({"batches": -1}, "batches: at least 0 is needed, not -1"),
        ({"where": []}, "where: .* is not a choice of attention, ffn, head"),
        ({"where": ["embeddings"]}, "where: .* is not a choice of attention, ffn, head"),
    ],
)
def test_wrong_values_are_told_in_a_line(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        LowRank(**fields)


@pytest.mark.parametrize("head", ["classification", "language"])
@pytest.mark.parametrize("name", FAMILIES)
def test_saved_and_loaded_it_is_the_same_model(name, head, tmp_path):
    """With units cut of it: 3 neurons of each block, a head of the last, a rank of each layer."""
    model = build(name, head, param_ratio=0.8, where=ALL)
    for units in rank_components(model) + neurons(model):
        shrink(units, torch.arange(units.count) >= (3 if units.name.endswith(".ffn") else 1))
    if name != "t5":
        shrink(heads(model)[-1], torch.arange(heads(model)[-1].count) != 1)
    record_sizes(model)
    before = logits(model, name, head)
    model.save_pretrained(tmp_path)
    loaded, info = _auto(name, head).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert type(loaded) is type(model) and get_ranks(loaded) == get_ranks(model) == loaded.config.ranks
    torch.testing.assert_close(logits(loaded, name, head), before, rtol=0, atol=1e-6)
    bare, inner = AutoModel.from_pretrained(tmp_path).state_dict(), model.base_model.state_dict()
    assert {key for key in bare if not key.startswith("pooler")} <= inner.keys()
    assert all(torch.equal(bare[key], value) for key, value in inner.items() if key in bare)
    fresh = _auto(name, head).from_config(AutoConfig.from_pretrained(tmp_path))
    assert fresh.num_parameters() == model.num_parameters()


def test_copies_and_pickles_go_through_both_factors():
    model = build("t5", "language", where=ALL)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(other, "t5", "language"), logits(model, "t5", "language"))
        assert other.num_parameters() == model.num_parameters()


def test_a_table_that_is_the_head_too_stays_one():
    model = build("bert", "language", param_ratio=0.5, where=["embeddings"])
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert table.weight is head.weight and table.output_factor is not head.input_factor
    assert table.weight.shape == (100, rank_of(table)) and head.input_factor.weight.shape == (rank_of(table), 32)
    model = build("t5", "language", param_ratio=0.5, where=["head"])
    words = [model.shared, model.encoder.embed_tokens, model.decoder.embed_tokens]
    assert len({id(module.output_factor) for module in words}) == 1
    assert len({id(module.weight) for module in (*words, model.lm_head)}) == 1


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"encoder": [{}], "outside": {}}, "do not list the blocks"),
        ({"decoder": [{}, {}], "outside": {}}, "do not list the blocks"),
        ({"encoder": [{"attention.self.quary": 3}, {}], "outside": {}}, "there is no attention.self.quary of rank 3"),
        ({"encoder": [{"output.dense": -1}, {}], "outside": {}}, "there is no output.dense of rank -1"),
    ],
)
def test_ranks_that_do_not_fit_are_refused(wanted, message):
    with pytest.raises(ValueError, match=f"^ranks: {message}"):
        apply_ranks(tiny("bert"), wanted)


def test_its_file_for_onnxruntime_gives_the_same(tmp_path):
    model = build("t5", "language", layers=1, where=ALL)
    export_onnx(model, batch("t5", size=2), tmp_path / "x.onnx")
    wider = batch("t5", size=3, length=11)
    del wider["decoder_attention_mask"]  # the file asks for none
    torch.testing.assert_close(OnnxModel(tmp_path / "x.onnx")(wider), logits_of(model, wider), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_the_8_bits_of_training_are_those_of_the_file(name, tmp_path):
    """What lies between two factors is rounded as well, and of an embedding the rows before they are made wide."""
    model, inputs = build(name, layers=1, where=ALL), batch(name, size=2)
    quantize = Quantize()
    assert not {key for key in quantize.attach(model) if "input_factor" in key or "output_factor" in key}
    quantize.update(0, Timeline(total_steps=1, epoch_steps=1))
    quantize.on = True
    training = logits_of(model, inputs)
    quantize.settle()
    fold(model)
    torch.testing.assert_close(logits_of(model, inputs), training, rtol=0, atol=1e-5)
    quantize.detach_inputs()
    full_model = logits_of(model, inputs)
    export_onnx(model, inputs, tmp_path / "x.onnx")
    quantize_onnx(tmp_path / "x.onnx", tmp_path / "int8.onnx")
    actual = OnnxModel(tmp_path / "int8.onnx")(inputs)
    torch.testing.assert_close(actual, training, rtol=0, atol=2e-3)
    assert (actual - full_model).abs().max() > 5 * (actual - training).abs().max()
    products = [node for node in onnx.load(tmp_path / "int8.onnx").graph.node if node.op_type == "MatMulInteger"]
    assert len(products) == sum(is_linear(module) for module in model.modules())


def test_a_smaller_vocabulary_is_cut_out_of_its_table():
    model, inputs = build("bert", where=ALL), batch("bert")
    keep = torch.tensor(sorted({0, *range(5, 100)}))
    new = torch.zeros(100, dtype=torch.long)
    new[keep] = torch.arange(len(keep))
    before = logits_of(model, inputs | {"input_ids": keep[new[inputs["input_ids"]]]})
    cut_vocabulary(model, keep)
    assert model.get_input_embeddings().weight.shape[0] == len(keep)
    after = logits_of(model, inputs | {"input_ids": new[inputs["input_ids"]]})
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
