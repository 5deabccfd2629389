"""Losses on routers, against float64, transformers and what they promise."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from losses.states.routers import LoadBalancing, RouterKL, load_balancing, router_kl
from prune_schedules.schedule import Timeline
from prune_schedules.targets.experts import ExpertTarget
from students.kinds.transformer import Transformer
from students.recording.signals import Signals, Trace
from students.recording.trace import Recorder
from students.structure.experts import experts
from tests.helpers.families import tiny_config
from tests.helpers.pruning.mixtures import MIXTURES, mixture, texts

LINE = Timeline(10, 10)


def recorded(model: PreTrainedModel, batch: dict[str, Tensor] | None = None) -> Trace:
    recorder = Recorder(model)
    trace = recorder.trace(batch or texts(), Signals(routing=frozenset({("decoder", 1), ("decoder", 2)})))
    recorder.close()
    return trace


def moved(seed: int = 1) -> PreTrainedModel:
    """A Mixtral with other routers."""
    model, draw = mixture("mixtral"), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight += 0.1 * torch.randn(layer.mlp.gate.weight.shape, generator=draw)
    return model


@pytest.mark.parametrize("name", MIXTURES)
def test_what_is_recorded_is_what_the_model_gives_out(name: str) -> None:
    model = mixture(name)
    trace = recorded(model)
    with torch.no_grad():
        own = model(**texts(), output_router_logits=True).router_logits
    for layer, logits in enumerate(own, start=1):
        assert trace.routing["decoder", layer].shape == (3, 12, 6)
        torch.testing.assert_close(trace.routing["decoder", layer], logits.view(3, 12, 6))


def test_kl_is_that_of_float64() -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 6, generator=draw).double() for _ in range(2))
    p, q = teacher.softmax(-1), student.softmax(-1)
    expected = (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(router_kl(student, teacher).double(), expected, atol=1e-6, rtol=1e-5)
    assert router_kl(student, student).abs().max() == 0
    teacher[:, 2] = -torch.inf  # a masked expert of the teacher's
    assert router_kl(student, teacher).isfinite().all()


def test_router_kl_is_the_mean_over_tokens_of_the_sum_over_layers() -> None:
    model, teacher = moved(), mixture("mixtral")
    loss = RouterKL()
    loss.setup(model.config, teacher.config)
    student_trace, teacher_trace = recorded(model), recorded(teacher)
    total, count = loss(student_trace, teacher_trace, texts(), loss.at(0, LINE))
    valid = texts()["attention_mask"].bool()
    expected = 0.0
    for layer in (1, 2):
        p, q = (t.routing["decoder", layer][valid].double().softmax(-1) for t in (teacher_trace, student_trace))
        expected += float((p * (p / q).log()).sum())
    assert float(total) == pytest.approx(expected, rel=1e-5) and int(count) == int(valid.sum()) == int(
        loss.count(texts())
    )
    assert float(loss(teacher_trace, teacher_trace, texts(), loss.at(0, LINE))[0]) == 0
    parts = [{key: value[i : i + 1] for key, value in texts().items()} for i in range(3)]
    sums = [loss(recorded(model, part), recorded(teacher, part), part, loss.at(0, LINE)) for part in parts]
    assert sum(float(part) for part, _ in sums) == pytest.approx(float(total), rel=1e-4)
    total.backward()
    assert model.model.layers[0].mlp.gate.weight.grad.abs().sum() > 0


def test_a_student_of_fewer_blocks_is_compared_by_the_rule() -> None:
    teacher = mixture("mixtral")
    student = Transformer(layers=1).build(teacher, None, None)
    loss = RouterKL()
    loss.setup(student.config, teacher.config)
    assert loss.student_signals.routing == {("decoder", 1)} and loss.teacher_signals.routing == {("decoder", 2)}
    assert loss.compares_tokens


def test_what_cannot_be_compared_is_refused() -> None:
    teacher = mixture("mixtral")
    with pytest.raises(ValueError, match="the student has 4 experts in a block, the teacher 6; leave it out"):
        RouterKL().setup(Transformer(experts=4).build(teacher, None, None).config, teacher.config)
    with pytest.raises(ValueError, match="routing: a llama has no experts"):
        RouterKL().setup(tiny_config("llama"), tiny_config("llama"))
    with pytest.raises(ValueError, match="a llama has no experts"):
        LoadBalancing().setup(tiny_config("llama"), None)
    with pytest.raises(ValueError, match="coefficient: must be at least 0, not -1"):
        LoadBalancing(coefficient=-1).setup(teacher.config, None)
    dense = mixture("qwen3_moe", mlp_only_layers=[0]).config
    with pytest.raises(ValueError, match="layers: the student has no experts in block 1; pair blocks with experts"):
        RouterKL().setup(dense, dense)
    RouterKL(layers={2: 2}).setup(dense, dense)


@pytest.mark.parametrize("per_token", [1, 2])
def test_load_balancing_is_that_of_transformers(per_token: int) -> None:
    logits = tuple(recorded(moved()).routing["decoder", layer] for layer in (1, 2))
    mask = texts()["attention_mask"]
    flat = tuple(layer.reshape(-1, 6) for layer in logits)
    expected = load_balancing_loss_func(flat, 6, per_token, mask)
    rows = torch.cat([layer[mask.bool()] for layer in logits])
    torch.testing.assert_close(load_balancing(rows, per_token), expected, atol=1e-6, rtol=1e-6)


def test_the_term_is_that_of_the_model_itself() -> None:
    """With its coefficient, top-k and mask; also what it adds to the gradient."""
    model = moved()
    loss = LoadBalancing()
    loss.setup(model.config, None)
    total, count = loss(recorded(model), None, texts(), loss.at(0, LINE))
    total.div(count).backward()
    gradient = model.model.layers[1].mlp.gate.weight.grad.clone()
    model.zero_grad()
    own = model(**texts(), output_router_logits=True).aux_loss * model.config.router_aux_loss_coef
    own.backward()
    assert float(total / count) == pytest.approx(float(own), rel=1e-5)
    torch.testing.assert_close(gradient, model.model.layers[1].mlp.gate.weight.grad, atol=1e-7, rtol=1e-4)


def test_a_balanced_load_is_the_least() -> None:
    even = torch.eye(6).repeat(4, 1) * 0.01
    assert float(load_balancing(even, 1)) == pytest.approx(1.0, abs=1e-3)
    assert float(load_balancing(torch.eye(6)[:1].repeat(24, 1) * 5, 1)) > 2


def test_padding_does_not_change_them() -> None:
    batch, model = texts(), moved()
    wider = {key: torch.nn.functional.pad(value, (0, 3)) for key, value in batch.items()}
    balance, kl = LoadBalancing(), RouterKL()
    balance.setup(model.config, None)
    kl.setup(model.config, model.config)
    for loss in (balance, kl):
        sums = [loss(recorded(model, b), recorded(mixture("mixtral"), b), b, loss.at(0, LINE)) for b in (batch, wider)]
        torch.testing.assert_close(sums[0], sums[1], atol=1e-4, rtol=1e-4)


def test_masked_experts_are_left_out_of_the_load() -> None:
    model = moved()
    for units in experts(model):
        ExpertTarget(units).keep(torch.tensor([True, True, False, True, True, False]))
    loss = LoadBalancing(coefficient=1.0)
    loss.setup(model.config, None)
    total, _ = loss(recorded(model), None, texts(), loss.at(0, LINE))
    total.backward()
    assert total.isfinite()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_signals_are_united() -> None:
    routing = Signals(routing=frozenset({("decoder", 1)}))
    assert (routing | Signals(logits=True)) == replace(routing, logits=True) and routing
