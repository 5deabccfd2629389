"""The Gram matrices of the inputs of a model's layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.families import blocks, depth, family, require
from students.processes import all_reduce_sum
from students.recording.model_io import model_inputs, valid_positions
from students.recording.signals import Signals
from students.weights import factor_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def stack_by_module(model: PreTrainedModel) -> dict[nn.Module, str]:
    """Return by module in a block the stack whose tokens it takes: in cross-attention keys and values the encoder."""
    stack_of = {}
    stacks = require(model.config, "structure" if len(family(model.config).stacks) > 1 else "hidden")
    if any(stack.sequence_first for stack in stacks.values()):
        raise ValueError(
            f"the inputs of the layers of a {model.config.model_type} begin with the sequence, not the text"
        )
    for name, stack in stacks.items():
        for block in blocks(model, name):
            stack_of |= dict.fromkeys(block.modules(), name)
            if cross := stack.attention.get("cross"):
                layers = [block.get_submodule(projection.path) for projection in cross.keys]
                stack_of |= {part: "encoder" for layer in layers for part in factor_modules(layer)}
    return stack_of


def collect_input_grams(
    model: PreTrainedModel, modules: list[nn.Module], batches: Iterable[dict[str, Tensor]]
) -> dict[nn.Module, Tensor]:
    """Return ``X'X`` [in, in], float32, of the inputs of linear layers inside blocks.

    It is summed over all tokens but padding and over all processes. The model runs in eval mode, and returns to
    its mode.
    """
    grams = _collect_grams(model, modules, batches, lambda batch: model(**model_inputs(model, batch)))
    return {module: all_reduce_sum(gram) for module, gram in grams.items()}


def collect_initial_grams(
    model: PreTrainedModel, modules: list[nn.Module], batches: Iterable[dict[str, Tensor]]
) -> dict[nn.Module, Tensor]:
    """Return the same for a model that is being built, from this process alone: all processes read the same batches.

    The forward pass ends before the head, which over a vocabulary would be most of the work.
    """
    from students.recording.trace import Recorder  # not above: a config is read without transformers

    recorder, stack = Recorder(model), list(family(model.config).stacks)[-1]
    end = Signals(hidden=frozenset({(stack, depth(model.config, stack))}))
    grams = _collect_grams(model, modules, batches, partial(recorder.trace, signals=end, stop_early=True))
    recorder.close()
    return grams


@torch.no_grad()
def _collect_grams(
    model: PreTrainedModel,
    modules: list[nn.Module],
    batches: Iterable[dict[str, Tensor]],
    run: Callable[[dict[str, Tensor]], object],
) -> dict[nn.Module, Tensor]:
    stacks, grams, mode, valid = stack_by_module(model), {}, model.training, {}

    def add_gram(module: nn.Module, args: tuple[Tensor]) -> None:
        rows = args[0].unflatten(0, valid[stacks[module]].shape) if args[0].ndim == 2 else args[0]  # OPT's feed-forward
        rows = rows[valid[stacks[module]]].float()
        grams[module] = grams.get(module, 0.0) + rows.T @ rows

    hooks = [module.register_forward_pre_hook(add_gram) for module in modules if module in stacks]
    model.eval()
    for batch in batches:
        batch = {name: value.to(model.device) for name, value in batch.items()}
        valid |= valid_positions(model.config, batch)
        run(batch)
    model.train(mode)
    for hook in hooks:
        hook.remove()
    return grams


def damp(gram: Tensor) -> Tensor:
    """Return ``X'X`` plus 1 % of its mean diagonal, float64 [in, in], so that it is positive definite."""
    gram = gram.to(torch.float64)
    return gram + 0.01 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def inverse_cholesky(gram: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of the damped Gram matrix, float64 [in, in].

    With it, later inputs compensate the error in an earlier one (OBS: Hassibi and Stork 1993).
    """
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damp(gram))), upper=True)
