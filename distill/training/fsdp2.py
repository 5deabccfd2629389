"""FSDP2: each process keeps a shard of every weight, and gathers a block's full weights only while the block runs.

Other packages see sharded weights only through ``students.weights.full_parameter`` and ``shard_like``.
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


class FSDP2Strategy(ModelParallelStrategy):
    """Lightning strategy ``fsdp2``: weights, gradients and the optimizer's state are sharded over all processes.

    FSDP (Zhao et al. 2023, arXiv 2304.11277) of the student, its frozen teachers and the projections of the losses.
    Masks and quantizers are attached in ``setup``, before sharding, and see full weights where a block runs.
    A checkpoint is a single file of full tensors, as without sharding.
    """

    def __init__(self):
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)
        self.models: list[PreTrainedModel] = []
        """The sharded models, the student first."""
        self.projections: list[nn.Module] = []

    def setup_environment(self) -> None:
        """Make all processes one data-parallel group."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def shard(self, models: list[PreTrainedModel], losses: Iterable[nn.Module], trainer: Trainer) -> None:
        """Shard the models, the student first, before the optimizer is built."""
        mesh, self.models = self.device_mesh["data_parallel"], models
        for model in self.models:
            shard(model, mesh)
        # Gradients are clipped together, so all parameters must be sharded.
        self.projections = [loss for loss in losses if list(loss.parameters())]
        for loss in self.projections:
            fully_shard(loss, mesh=mesh)
        self.forward_sync = ForwardSync(self.models, trainer)

    def lightning_module_state_dict(self) -> dict[str, Tensor]:
        """Return the state of the module in full tensors on rank 0, and None for each tensor on other ranks."""
        return self._gathered(self.model.state_dict())

    def optimizer_state(self, optimizer: Optimizer | LightningOptimizer) -> dict[str, Any]:
        """Return the optimizer's state as it would be in one process, on rank 0."""
        state = getattr(optimizer, "_optimizer", optimizer).state_dict()
        return state | {"state": {number: self._gathered(tensors) for number, tensors in state["state"].items()}}

    def _gathered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        pairs = ((name, full_tensor(tensor).cpu()) for name, tensor in tensors.items())
        # One tensor at a time: other ranks need not keep what they help to gather.
        return dict(pairs) if self.is_global_zero else {name: None for name, _ in pairs}

    def load_checkpoint(self, checkpoint_path: Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a file of full tensors, and keep the shards of this process."""
        saved = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=weights_only)
        sharded = self.model.state_dict()
        self.model.load_state_dict(
            {name: shard_like(value, sharded[name]) for name, value in saved.pop("state_dict").items()}
        )
        # torch's set_optimizer_state_dict requires a state of parameters that are still frozen.
        for optimizer, state in zip(self.optimizers, saved["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for number, values in state["state"].items():
                parameter = parameters[number]
                for name, value in values.items():
                    values[name] = (shard_like(value, parameter) if value.shape == parameter.shape else value).clone()
            optimizer.load_state_dict(state)
        return saved

    def pre_backward(self, closure_loss: Tensor) -> None:
        """Prepare the student for its backward pass."""
        register_backward_start(self.models[0], closure_loss)

    def gather(self) -> None:
        """Undo ``shard`` after training: the models are on the CPU with full weights on rank 0, on meta elsewhere.

        All processes call it.
        """
        for hook in self.forward_sync.hooks:
            hook.remove()
        for model in [*self.models, *self.projections]:
            unshard(model, keep=self.is_global_zero)


class ForwardSync:
    """Synchronizes forward passes in validation, where processes have different numbers of batches.

    A sharded forward pass needs all processes. Before each pass they agree on the model to run; a process that
    has no batch for that model runs it again on its last inputs.
    """

    def __init__(self, models: list[PreTrainedModel], trainer: Trainer):
        self.models, self.trainer, self.repeating = models, trainer, False
        self.last_inputs: list[dict[str, Any]] = [{} for _ in models]
        self.hooks = [
            # prepend: before the hook of FSDP that gathers weights
            model.register_forward_pre_hook(partial(self._before_forward, number), prepend=True, with_kwargs=True)
            for number, model in enumerate(models, start=1)
        ]

    def _before_forward(self, number: int, model: nn.Module, args: tuple, inputs: dict[str, Any]) -> None:
        self.last_inputs[number - 1] = {name: value for name, value in inputs.items() if name != "recording"}
        if self.trainer.validating and not self.repeating:
            self._join_until(number)

    def finish(self) -> None:
        """Join the forward passes of other processes until none has a batch left."""
        self._join_until(0)
        for model in self.models:
            model.reshard()  # FSDP keeps a root gathered for a backward pass, and there is none

    def _join_until(self, number: int) -> None:
        """Join the passes of models with higher numbers until all processes agree on this one; 0 is no model."""
        device = next(self.models[0].parameters()).device
        while (chosen := all_reduce_max(number, device)) != number:
            self.repeating = True
            self.models[chosen - 1](**self.last_inputs[chosen - 1])
            self.repeating = False


def frozen_models(teacher: object) -> list[PreTrainedModel]:
    """Return the models of a teacher that run on all processes at the same time; a cached teacher has none."""
    members = teacher.members.values() if isinstance(teacher, Ensemble) else [teacher]
    return [member.model for member in members if isinstance(member, FrozenTeacher)]


def shard(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Shard a model in place, block by block: blocks that share layers together, all other (tied) weights together."""
    if len({weight.dtype for weight in model.parameters()}) > 1:
        model.float()  # FSDP needs a single dtype, and transformers keeps some layers of a float16 T5 in float32
    for stack in family(model.config).stacks:
        for group in group_shared_blocks(blocks(model, stack)):
            fully_shard(group, mesh=mesh)
    fully_shard(model, mesh=mesh)


def register_backward_start(model: PreTrainedModel, loss: Tensor) -> None:
    """Start FSDP's backward pass of a model when the gradient of a loss arrives; call it before ``backward``.

    FSDP starts it when a gradient reaches the model's outputs, which a loss on hidden states alone never does.
    """
    loss.register_hook(_on_gradient(model))


def register_trace_hooks(model: PreTrainedModel, trace: Trace) -> None:
    """Start FSDP's backward pass of each block whose attention or router was recorded in a trace."""
    for (stack, layer), logits in trace.routing.items():
        if logits.requires_grad:
            logits.register_hook(_on_gradient(blocks(model, stack)[layer - 1]))
    for (stack, layer), attention in trace.attention.items():
        block = blocks(model, "decoder" if stack == "cross" else stack)[layer - 1]
        for tensor in (attention.query, attention.key, attention.value, attention.own_scores, attention.sink):
            if tensor is not None and tensor.requires_grad:
                tensor.register_hook(_on_gradient(block))


def _on_gradient(module: nn.Module) -> Callable[[Tensor], Tensor]:
    return fully_shard.state(module)._pre_backward


def unshard(model: nn.Module, keep: bool) -> None:
    """Undo ``fully_shard`` in place, for which torch has no call. All processes call it together.

    Args:
        model: a sharded model.
        keep: whether to keep the full weights, on the CPU; else the parameters are on the meta device.
    """
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in sharded:
        module.reshard()
    full: dict[nn.Parameter, nn.Parameter] = {}  # tied parameters share an entry
    for module in model.modules():
        for name, old in module._parameters.items():
            if isinstance(old, DTensor):
                if old not in full:
                    values = full_tensor(old.detach()).to("cpu" if keep else "meta")
                    full[old] = nn.Parameter(values, requires_grad=old.requires_grad)
                module._parameters[name] = full[old]
    for module in sharded:
        state = fully_shard.state(module)
        handles = [state._pre_forward_hook_handle, state._post_forward_hook_handle]
        for group in state._fsdp_param_groups:
            handles += group._module_to_pre_save_state_dict_hook_handle.values()
            handles += group._module_to_pre_load_state_dict_hook_handle.values()
            handles += [parameter._post_load_hook_handle for parameter in group.fsdp_params]
        for handle in handles:
            handle.remove()
        module.__class__ = type(module).__mro__[module._orig_cls_mro_index]
    for module in model.modules():
        for name in (STATE_KEY, REGISTRY_KEY, "_is_fsdp_managed_module", "_fsdp_use_orig_params"):
            module.__dict__.pop(name, None)


StrategyRegistry.register(
    "fsdp2", FSDP2Strategy, "Weights, gradients and optimizer state sharded, gathered block by block."
)
