"""Models in shards: each process keeps a part of every weight, and has a block whole only while the block runs.

The rest of the project knows them by ``students.weights.full_parameter`` and ``shard_like``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed._composable.contract import REGISTRY_KEY, STATE_KEY
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from distill.teachers.ensemble import Ensemble
from distill.teachers.teacher import FrozenTeacher
from students.families.families import blocks, family
from students.processes import all_reduce_max, full_tensor
from students.recording.signals import Trace
from students.structure.sharing import group_shared_blocks
from students.weights import shard_like


class Sharded(ModelParallelStrategy):
    """``strategy: fsdp2``: weights, gradients and the optimizer's state lie in shards over all processes.

    FSDP (Zhao et al. 2023, arXiv 2304.11277) of the student, its frozen teachers and the projections of the losses.
    Masks and quantizers are on since ``setup`` and see whole weights where a block runs. Checkpoints are single files
    of whole tensors, as those of one process are.
    """

    def __init__(self):
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)
        self.models: list[PreTrainedModel] = []
        """What lies in shards, the student first."""
        self.projections: list[nn.Module] = []

    def setup_environment(self) -> None:
        """All processes share one copy of the weights."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, models: list[PreTrainedModel], losses: Iterable[nn.Module], trainer: Trainer) -> None:
        """Cuts the models, the student first, before an optimizer is made."""
        mesh, self.models = self.device_mesh["data_parallel"], models
        for model in self.models:
            shard(model, mesh)
        # Gradients are clipped together, and for that all must lie in shards.
        self.projections = [loss for loss in losses if list(loss.parameters())]
        for loss in self.projections:
            fully_shard(loss, mesh=mesh)
        self.turns = Turns(self.models, trainer)

    def lightning_module_state_dict(self) -> dict[str, Tensor]:
        """The state of the module, whole, on rank 0; elsewhere empty."""
        return self._gathered(self.model.state_dict())

    def optimizer_state(self, optimizer: Optimizer | LightningOptimizer) -> dict[str, Any]:
        """The state of the optimizer as it would be in one process, on rank 0."""
        state = getattr(optimizer, "_optimizer", optimizer).state_dict()
        return state | {"state": {number: self._gathered(each) for number, each in state["state"].items()}}

    def _gathered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        pairs = ((name, full_tensor(tensor).cpu()) for name, tensor in tensors.items())
        # Each in its turn: the others need not keep what they help to gather.
        return dict(pairs) if self.is_global_zero else {name: None for name, _ in pairs}

    def load_checkpoint(self, checkpoint_path: Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a file of whole tensors, and takes of them what belongs to this process."""
        saved = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=weights_only)
        own = self.model.state_dict()
        self.model.load_state_dict(
            {name: shard_like(value, own[name]) for name, value in saved.pop("state_dict").items()}
        )
        # Not by torch's set_optimizer_state_dict, which wants a state of parameters that are still frozen.
        for optimizer, state in zip(self.optimizers, saved["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for number, values in state["state"].items():
                mine = parameters[number]
                for name, value in values.items():
                    values[name] = (shard_like(value, mine) if value.shape == mine.shape else value).clone()
            optimizer.load_state_dict(state)
        return saved

    def pre_backward(self, closure_loss: Tensor) -> None:
        """Makes the student ready for the gradient."""
        get_ready(self.models[0], closure_loss)

    def gather(self) -> None:
        """After training: the models are as they were before ``shard``, on the CPU, and on rank 0 with their numbers.

        All processes call it.
        """
        for hook in self.turns.hooks:
            hook.remove()
        for model in [*self.models, *self.projections]:
            unshard(model, keep=self.is_global_zero)


class Turns:
    """Lets processes validate on numbers of batches that differ, although a forward pass of one needs all of them.

    Before a pass they agree on the model that runs. Who did not ask for it runs it too, on what he gave it last.
    """

    def __init__(self, models: list[PreTrainedModel], trainer: Trainer):
        self.models, self.trainer, self.joining = models, trainer, False
        self.given: list[dict[str, Any]] = [{} for _ in models]
        self.hooks = [
            # prepend: before the hook of FSDP, which gathers weights
            model.register_forward_pre_hook(partial(self._enter, number), prepend=True, with_kwargs=True)
            for number, model in enumerate(models, start=1)
        ]

    def _enter(self, number: int, model: nn.Module, args: tuple, given: dict[str, Any]) -> None:
        self.given[number - 1] = {name: value for name, value in given.items() if name != "recording"}
        if self.trainer.validating and not self.joining:
            self._wait(number)

    def finish(self) -> None:
        """After the last pass of this process: waits until no other has one to make."""
        self._wait(0)
        for model in self.models:
            model.reshard()  # FSDP leaves a root whole for the backward pass, and there is none

    def _wait(self, mine: int) -> None:
        device = next(self.models[0].parameters()).device
        while (chosen := all_reduce_max(mine, device)) != mine:
            self.joining = True
            self.models[chosen - 1](**self.given[chosen - 1])
            self.joining = False


def frozen(teacher: object) -> list[PreTrainedModel]:
    """The models of a teacher that all processes ask at the same time: not of one with a cache."""
    members = teacher.members.values() if isinstance(teacher, Ensemble) else [teacher]
    return [member.model for member in members if isinstance(member, FrozenTeacher)]


def shard(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Cuts each block, together those that share layers and all that is outside (tied weights must be), in place."""
    if len({weight.dtype for weight in model.parameters()}) > 1:
        model.float()  # FSDP wants one precision, and of T5 in float16 transformers keeps some layers in float32
    for stack in family(model.config).stacks:
        for group in group_shared_blocks(blocks(model, stack)):
            fully_shard(group, mesh=mesh)
    fully_shard(model, mesh=mesh)


def get_ready(model: PreTrainedModel, loss: Tensor) -> None:
    """Call it on a loss before its backward pass: FSDP begins one when a gradient reaches the outputs of the model,
    and of a loss that looks elsewhere none does.
    """
    loss.register_hook(_on_gradient(model))


def watch(model: PreTrainedModel, trace: Trace) -> None:
    """The same for blocks of which a trace took something out of the middle."""
    for (stack, layer), seen in trace.attention.items():
        block = blocks(model, "decoder" if stack == "cross" else stack)[layer - 1]
        for tensor in (seen.query, seen.key, seen.value):
            if tensor.requires_grad:
                tensor.register_hook(_on_gradient(block))


def _on_gradient(module: nn.Module) -> Callable[[Tensor], Tensor]:
    return fully_shard.state(module)._pre_backward


def unshard(model: nn.Module, keep: bool) -> None:
    """Takes ``fully_shard`` off again, in place; torch has no call for it. All processes do so together.

    Args:
        model: in shards.
        keep: whether the whole weights stay, on the CPU; without they have no values, on the meta device.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.reshard()
    new: dict[nn.Parameter, nn.Parameter] = {}  # of a tied one there is one
    for module in model.modules():
        for name, old in module._parameters.items():
            if isinstance(old, DTensor):
                if old not in new:
                    values = full_tensor(old.detach()).to("cpu" if keep else "meta")
                    new[old] = nn.Parameter(values, requires_grad=old.requires_grad)
                module._parameters[name] = new[old]
    for part in parts:
        state = fully_shard.state(part)
        handles = [state._pre_forward_hook_handle, state._post_forward_hook_handle]
        for group in state._fsdp_param_groups:
            handles += group._module_to_pre_save_state_dict_hook_handle.values()
            handles += group._module_to_pre_load_state_dict_hook_handle.values()
            handles += [each._post_load_hook_handle for each in group.fsdp_params]
        for handle in handles:
            handle.remove()
        part.__class__ = type(part).__mro__[part._orig_cls_mro_index]
    for module in model.modules():
        for name in (STATE_KEY, REGISTRY_KEY, "_is_fsdp_managed_module", "_fsdp_use_orig_params"):
            module.__dict__.pop(name, None)


StrategyRegistry.register("fsdp2", Sharded, "Weights, gradients and optimizer in shards, gathered block by block.")
