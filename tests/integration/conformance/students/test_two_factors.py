"""Layers in two factors, in every family: the teacher at full rank, and as many numbers as may stay."""

import warnings

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from students.forms.low_rank import select_unfactored
from students.recording.input_grams import collect_initial_grams
from students.structure.factored import decompose, get_ranks, rank_of
from students.structure.places import select_modules
from tests.helpers.families import batch, tiny
from tests.helpers.students.low_rank import ALL, build, logits, student_of


@pytest.mark.parametrize("head", ["classification", "language"])
def test_what_layers_read_makes_their_outputs_nearer(name, head):
    """Of each layer in a block, over positions that are not padding; what is outside stays the plain truncation."""
    inputs, fields = batch(name, head=head), {"param_ratio": 0.5, "where": ALL}
    teacher, plain = tiny(name, head=head), build(name, head, **fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        student = student_of(batches=1, **fields).build(tiny(name, head=head), None, None, batches=iter([inputs, None]))
    assert student.training and get_ranks(student) == get_ranks(plain)
    chosen = {path: modules[0] for path, modules in select_unfactored(teacher, ALL).items()}
    grams = collect_initial_grams(teacher, list(chosen.values()), [inputs])
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
            lost, before = (torch.einsum("oi,ij,oj", error, grams[layer], error) for error in errors)
            assert lost < before


@pytest.mark.parametrize("head", ["classification", "language"])
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


def test_each_layer_has_the_numbers_that_may_stay(name):
    teacher, student = tiny(name), build(name, param_ratio=0.5)
    layers_of_teacher = select_modules(teacher, ["attention", "ffn"])[0]
    for path, module in select_modules(student, ["attention", "ffn"])[0].items():
        if path not in layers_of_teacher:
            continue
        out, size = sorted(layers_of_teacher[path].weight.shape)
        rank = out * size // (2 * (out + size))
        assert rank_of(module) == rank
        assert module.weight.numel() + module.input_factor.weight.numel() == rank * (out + size)
    # Pooler and head are as they were, and so are biases.
    assert {p.shape for n, p in student.named_parameters() if n.endswith("bias")} == {
        p.shape for n, p in teacher.named_parameters() if n.endswith("bias")
    }
