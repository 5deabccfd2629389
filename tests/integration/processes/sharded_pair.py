"""What both processes do for ``test_sharded.py``, which starts the first; Lightning starts the second."""

import copy
import hashlib
import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from distill import run
from distill.evaluation import evaluate
from distill.training.fsdp2 import register_backward_start, register_trace_hooks, shard, unshard
from distill.training.prepare.documents import wait_for_rank_0
from prune_schedules.callback import Prune
from prune_schedules.schedule import Constant, Timeline
from prune_schedules.scores.magnitude import Magnitude
from prune_schedules.targets.mask import Mask
from quant_aware.quantize import Quantize
from quant_aware.quantizers.uniform import Uniform
from students.families.families import depth, family
from students.forms.share_layers import ShareLayers
from students.kinds.transformer import Transformer
from students.processes import full_tensor
from students.recording.signals import Signals
from students.recording.trace import Recorder
from students.weights import find_weight_transforms
from tests.helpers.families import batch, tiny
from tests.helpers.runs import interrupted

TIME = Timeline(total_steps=10, epoch_steps=5)


def train(file: Path) -> None:
    """The run under DDP, in shards, and in shards with a stop and a resumption; each ends with one set of masks."""
    Prune.on_train_end = agree
    for name, strategy in (("ddp", "ddp"), ("whole", "fsdp2")):
        run(file, name=name, **{"trainer.strategy": strategy})
        wait_for_rank_0()
    parts = {"name": "parts", "trainer.strategy": "fsdp2"}
    interrupted(pytest.MonkeyPatch(), 6, file, **parts)
    wait_for_rank_0()  # who resumes reads what rank 0 is still writing
    interrupted(pytest.MonkeyPatch(), 18, file, resume=True, **parts)


def agree(prune: Prune, trainer: Trainer, module: LightningModule) -> None:
    """Fails if the masks of this process are not those of the other."""
    masks = hashlib.sha256()
    for name, mask in find_weight_transforms(module.student, Mask).items():
        masks.update(name.encode() + mask.mask.numpy().tobytes())
    gathered = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, masks.hexdigest())
    assert len(set(gathered)) == 1 and len(gathered) == 2 and prune.sparsity > 0, gathered


def compare(name: str, signals: str) -> list[str]:
    """The parameters of a model of one block, or of three that share, whose gradients differ in shards; pruned and
    rounded where no other signals than logits are asked for.
    """
    if signals == "shared":
        plain = Transformer(share_layers=ShareLayers()).build(tiny(name, layers=3), None, None).eval()
    else:
        plain = tiny(name, layers=1, head="language" if name in ("bert", "gpt2") else "classification")
    cut = copy.deepcopy(plain)
    stack = list(family(plain.config).stacks)[-1]
    last = {(stack, depth(plain.config, stack))} | ({("cross", 1)} if name == "t5" else set())
    asked = {
        "logits": Signals(logits=True),
        "shared": Signals(logits=True),
        "attention": Signals(logits=True, attention=frozenset(last)),
        "embeddings": Signals(logits=True, hidden=frozenset({(stack, 0)})),
    }[signals]
    given, losses = batch(name), []
    given.pop("labels")
    for model in (plain, cut):
        recorder, pruner = Recorder(model), Magnitude(sparsity=Constant(0.5), shape="neurons")
        quantize = Quantize(weights=Uniform(learn=True))
        if signals in ("logits", "shared"):
            pruner.attach(model)
            quantize.attach(model)
            quantize.update(0, TIME)
        if model is cut:
            shard(model, init_device_mesh("cpu", (2,)))
        if signals in ("logits", "shared"):
            pruner.update(0, TIME)
            quantize.calibrate(model, was_enabled=False)
        trace = recorder.trace(given, asked)
        seen = [each.scores() for each in trace.attention.values()] + list(trace.hidden.values())
        loss = sum(each.square().mean() for each in seen or [trace.logits])
        if model is cut:
            register_trace_hooks(model, trace)
            register_backward_start(model, loss)
        loss.backward()
        losses.append(float(loss.detach()))
        recorder.close()
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert all(isinstance(parameter, DTensor) for parameter in cut.parameters())
    pairs = zip(plain.named_parameters(), cut.parameters(), strict=True)
    others = [key for (key, one), other in pairs if not same(one.grad, other.grad)]
    first = torch.distributed.get_rank() == 0
    unshard(cut, keep=first)
    if first:  # whole again, and nothing is left of what cut it
        assert all(torch.equal(one, cut.state_dict()[key]) for key, one in plain.state_dict().items())
        assert type(cut) is type(plain) and copy.deepcopy(cut)(**given).logits.equal(plain(**given).logits)
    return others


def same(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    """Whether gradients are equal up to rounding; one of zeros is none."""
    first, second = (torch.zeros(()) if each is None else full_tensor(each) for each in (first, second))
    return torch.allclose(first, second, atol=1e-6, rtol=1e-4)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    evaluate.measure_latencies = partial(evaluate.measure_latencies, seconds=0.0)
    train(folder / "x.yaml")
    pairs = [("bert", signals) for signals in ("logits", "attention", "embeddings")]
    pairs += [("albert", "attention"), ("gpt2", "logits"), ("t5", "attention"), ("bert", "shared")]
    differences = {" ".join(pair): compare(*pair) for pair in pairs}
    if torch.distributed.get_rank() == 0:
        (folder / "gradients.json").write_text(json.dumps(differences))
