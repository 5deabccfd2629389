"""What the layers of a model read: whose positions, and how their inputs hang together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from students.families.families import blocks, depth, family
from students.processes import all_reduce_sum
from students.recording.model_io import model_inputs, valid_positions
from students.recording.signals import Signals
from students.weights import factor_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def stack_by_module(model: PreTrainedModel) -> dict[nn.Module, str]:
    """Whose positions each module in a block reads, by the name of a stack: in cross-attention the encoder's."""
    found = {}
    for name, stack in family(model.config).stacks.items():
        for block in blocks(model, name):
            found |= dict.fromkeys(block.modules(), name)
            if cross := stack.attention.get("cross"):
                layers = [block.get_submodule(each.path) for each in (cross.key, cross.value)]
                found |= {part: "encoder" for layer in layers for part in factor_modules(layer)}
    return found


def collect_input_grams(
    model: PreTrainedModel, modules: list[nn.Module], batches: Iterable[dict[str, Tensor]]
) -> dict[nn.Module, Tensor]:
    """``X'X`` [in, in] of the inputs of linear layers inside blocks, float32, over all positions that are not padding
    and all processes; the model runs in evaluation, and is left in the mode in which it was.
    """
    found = _collect_grams(model, modules, batches, lambda batch: model(**model_inputs(model, batch)))
    return {module: all_reduce_sum(gram) for module, gram in found.items()}


def collect_initial_grams(
    model: PreTrainedModel, modules: list[nn.Module], batches: Iterable[dict[str, Tensor]]
) -> dict[nn.Module, Tensor]:
    """The same of a model that is being built, and of this process alone: all of them read the same batches then. Its
    head is not asked, which over a vocabulary would be most of the work.
    """
    from students.recording.trace import Recorder  # not above: a config is read without transformers

    recorder, stack = Recorder(model), list(family(model.config).stacks)[-1]
    end = Signals(hidden=frozenset({(stack, depth(model.config, stack))}))
    found = _collect_grams(model, modules, batches, partial(recorder.trace, signals=end, stop_early=True))
    recorder.close()
    return found


@torch.no_grad()
def _collect_grams(
    model: PreTrainedModel,
    modules: list[nn.Module],
    batches: Iterable[dict[str, Tensor]],
    run: Callable[[dict[str, Tensor]], object],
) -> dict[nn.Module, Tensor]:
    stacks, found, mode, valid = stack_by_module(model), {}, model.training, {}

    def add_gram(module: nn.Module, args: tuple[Tensor]) -> None:
        rows = args[0][valid[stacks[module]]].float()
        found[module] = found.get(module, 0.0) + rows.T @ rows

    hooks = [module.register_forward_pre_hook(add_gram) for module in modules if module in stacks]
    model.eval()
    for batch in batches:
        batch = {name: value.to(model.device) for name, value in batch.items()}
        valid |= valid_positions(model.config, batch)
        run(batch)
    model.train(mode)
    for hook in hooks:
        hook.remove()
    return found


def damp(gram: Tensor) -> Tensor:
    """``X'X`` and 1 % of its mean diagonal, float64, [in, in]: something is read in every direction."""
    gram = gram.to(torch.float64)
    return gram + 0.01 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def inverse_cholesky(gram: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse of ``damp``, float64, [in, in]: by it an error in one input is made
    good in the later ones (OBS: Hassibi and Stork 1993).
    """
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damp(gram))), upper=True)
