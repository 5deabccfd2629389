"""The recorder in a training run: dropout, autocast, checkpointing, compiling, LoRA, DDP."""

import gc
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from students.recording.model_io import model_inputs
from students.recording.signals import Signals, Trace
from students.recording.trace import Recorder
from tests.helpers.families import FAMILIES, batch, everything, tiny

CHECKPOINTING = [name for name in FAMILIES if name != "albert"]  # transformers has none for ALBERT


def test_autocast_records_half_precision_and_scores_in_float32() -> None:
    model = tiny("bert")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention = Recorder(model).trace(batch("bert"), everything(model.config)).attention["encoder", 2]
        scores = attention.scores()
    assert attention.query.dtype == torch.bfloat16 and scores.dtype == torch.float32
    expected = attention.query.double() @ attention.key.double().mT * 8**-0.5
    torch.testing.assert_close(scores.double(), expected, atol=1e-5, rtol=1e-5)


def distance(trace: Trace) -> Tensor:
    """A loss that every recorded tensor has a part in, attention twice as it is used twice."""
    parts = [state.square().mean() for state in trace.hidden.values()]
    for attention in trace.attention.values():
        parts += [
            attention.scores().square().mean(),
            attention.probabilities().square().sum(-1).mean(),
            attention.value.square().mean(),
        ]
    return sum(parts) if trace.logits is None else sum(parts) + trace.logits.square().mean()


def gradients(model: PreTrainedModel, trace: Trace) -> dict[str, Tensor]:
    model.zero_grad()
    distance(trace).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CHECKPOINTING)
@pytest.mark.parametrize("logits", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(name: str, logits: bool) -> None:
    model, data = tiny(name).train(), batch(name)
    recorder, signals = Recorder(model), everything(model.config, logits)
    torch.manual_seed(0)
    expected = gradients(model, recorder.trace(data, signals))
    model.activation_checkpointing_enable({"use_reentrant": False})
    torch.manual_seed(0)
    trace = recorder.trace(data, signals)
    copies = dict(trace.hidden), dict(trace.attention)
    actual = gradients(model, trace)
    assert (trace.hidden, trace.attention) == copies  # the blocks that ran again in backward left nothing
    assert actual.keys() == expected.keys() and len(actual) > 15
    for key, gradient in expected.items():
        torch.testing.assert_close(actual[key], gradient, atol=1e-5, rtol=1e-4)


def test_reentrant_checkpointing_would_lose_gradients_and_is_refused() -> None:
    model = tiny("bert").train()
    model.activation_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    with pytest.raises(ValueError, match="use_reentrant"):
        Recorder(model).trace(batch("bert"), Signals(attention=frozenset({("encoder", 1)})))


def test_a_trace_that_is_dropped_is_freed_under_gradient_checkpointing() -> None:
    model = tiny("bert").train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    trace = Recorder(model).trace(batch("bert"), everything(model.config))
    query = weakref.ref(trace.attention["encoder", 1].query)
    del trace
    gc.collect()
    assert query() is None


@pytest.mark.parametrize(("name", "layers"), [("bert", 1), ("albert", 2)])
def test_a_compiled_model_leaves_the_same_in_one_graph(name: str, layers: int) -> None:
    model, data = tiny(name, layers=layers), batch(name)
    recorder, signals = Recorder(model), everything(model.config)
    expected = recorder.trace(data, signals)
    wanted = gradients(model, expected)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model.compile(backend="aot_eager")
    trace = recorder.trace(data, signals)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(trace.logits, expected.logits)
    for site, state in expected.hidden.items():
        torch.testing.assert_close(trace.hidden[site], state)
    for site, attention in expected.attention.items():
        torch.testing.assert_close(trace.attention[site].probabilities(), attention.probabilities())
    for key, gradient in gradients(model, trace).items():
        torch.testing.assert_close(gradient, wanted[key], atol=1e-5, rtol=1e-4)


def test_lora_adapters_are_recorded_and_trained() -> None:
    model, data = tiny("bert"), batch("bert")
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules=["query", "value"]))
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    wrapped.eval()
    given = model_inputs(model, data)
    recorder, signals = Recorder(wrapped.get_base_model()), everything(model.config)
    trace = recorder.trace(data, signals)
    torch.testing.assert_close(trace.logits, wrapped(**given).logits, atol=1e-6, rtol=0)
    with wrapped.disable_adapter():
        bare = recorder.trace(data, signals)
    queries = [traced.attention["encoder", 1].query for traced in (trace, bare)]
    assert not torch.allclose(*queries, atol=0.1)
    with_gradient = gradients(wrapped, recorder.trace(data, Signals(attention=signals.attention)))
    assert with_gradient and all("lora" in name for name in with_gradient)


class Student(nn.Module):
    """As a training module holds a model: it traces and compares, inside of what DDP wraps."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.recorder = Recorder(model)

    def forward(self, data: dict[str, Tensor]) -> Tensor:
        return distance(self.recorder.trace(data, everything(self.model.config)))


def test_ddp_gives_the_gradients_of_the_bare_model(tmp_path) -> None:
    model, data = tiny("distilbert"), batch("distilbert")
    recorder = Recorder(model)
    expected = gradients(model, recorder.trace(data, everything(model.config)))
    recorder.close()
    model.zero_grad()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(Student(model))
        for _ in range(2):  # the second pass fails if the first left a parameter unreduced
            model.zero_grad()
            wrapped(data).backward()
    finally:
        torch.distributed.destroy_process_group()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-5)
