"""What holds for every loss, on real traces of an encoder and a decoder."""

from inspect import isabstract

import pytest
import torch

from losses.loss import Loss
from losses.outputs.labels import Labels, label_loss
from losses.outputs.logits import Logits
from losses.outputs.mse import LogitsMSE, logits_mse
from losses.outputs.passages import ListwiseKL, MarginMSE
from losses.outputs.vectors import SimilarityKL, VectorCosine, VectorMSE
from losses.states.routers import LoadBalancing, RouterKL
from prune_schedules.schedule import Constant, Linear, Timeline, TimePoint
from students.recording.signals import Trace
from tests.helpers.families import batch, tiny
from tests.helpers.traces import LOSSES, OF_ONE_BATCH, first, forward_kl, leaves, look, pair, set_up, widened

TIMELINE = Timeline(total_steps=100, epoch_steps=20)
every_loss = pytest.mark.parametrize("kind", LOSSES)
# the first token of a decoder attends to no other
of_both_families = pytest.mark.parametrize(
    "kind, family",
    [(kind, family) for family in ("bert", "gpt2") for kind in LOSSES if (kind, family) != ("PatientHidden", "gpt2")],
)
IS_KL = ("Logits", "AttentionKL", "Relations", "MiniLM")


def evaluated(kind, family, data, width=24):
    student, teacher = pair(family, width)
    loss = set_up(LOSSES[kind](), student, teacher)
    return loss(*look(loss, student, teacher, data), data, first(loss))


def concrete(kind):
    actual = set() if isabstract(kind) else {kind}
    return actual.union(*(concrete(other) for other in kind.__subclasses__() if other.__module__.startswith("losses.")))


def test_no_loss_is_left_out():
    """Those on what these models and batches have not are held to the same in files of their own."""
    on_others = {RouterKL, LoadBalancing, MarginMSE, ListwiseKL, VectorMSE, VectorCosine, SimilarityKL}
    assert {type(make()) for make in LOSSES.values()} | on_others == concrete(Loss)


@of_both_families
def test_a_student_equal_to_its_teacher_has_no_loss(kind, family):
    if kind in ("HiddenMSE, mixture", "Contrastive"):
        pytest.skip("a mixture of layers is none of them, and equal states are no surer told from others")
    model, data = tiny(family, layers=2), batch(family)
    loss = set_up(LOSSES[kind](), model, model)
    value = float(loss(*look(loss, model, model, data), data, first(loss))[0].detach())
    if kind.startswith("Labels"):
        assert value > 0.1
    else:
        assert abs(value) < 1e-5


@of_both_families
def test_more_padding_changes_nothing(kind, family):
    data = batch(family)
    value, count = evaluated(kind, family, data)
    wide_value, wide_count = evaluated(kind, family, widened(family, data))
    assert count == wide_count
    torch.testing.assert_close(value, wide_value, rtol=1e-4, atol=1e-5)


@of_both_families
def test_a_batch_is_the_sum_of_its_parts(kind, family):
    if kind in OF_ONE_BATCH:
        pytest.skip(OF_ONE_BATCH[kind])
    data = batch(family, size=4)
    value, count = evaluated(kind, family, data)
    parts = [evaluated(kind, family, {key: t[rows] for key, t in data.items()}) for rows in (slice(0, 1), slice(1, 4))]
    assert count == sum(count for _, count in parts)
    torch.testing.assert_close(value, sum(value for value, _ in parts), rtol=1e-4, atol=1e-5)


@of_both_families
def test_the_batch_alone_tells_the_count(kind, family):
    data = batch(family)
    for given in (data, {key: value for key, value in data.items() if key != "attention_mask"}):
        assert evaluated(kind, family, given)[1] == LOSSES[kind]().count(given)


@every_loss
def test_what_is_counted(kind):
    data = batch("bert", size=3, length=8)
    by_example = (
        *("Labels", "Logits", "KL", "Shannon", "Variation", "DKD", "DIST"),
        *("Patient", "Flow", "Contrastive", "examples"),
    )
    expected = 3 if any(name in kind for name in by_example) and kind != "AttentionKL" else 8 + 6 + 4
    assert LOSSES[kind]().count(data) == expected


@of_both_families
def test_half_precision_does_not_reach_the_loss(kind, family):
    student, teacher = pair(family, width=32)
    data = batch(family)
    loss = set_up(LOSSES[kind](), student, teacher)
    traces = look(loss, student, teacher, data)
    exact = loss(*traces, data, first(loss))[0]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*traces, data, first(loss))[0]
        low = loss(*look(loss, student, teacher, data), data, first(loss))[0]
    assert value.dtype == low.dtype == torch.float32 and value.shape == ()
    torch.testing.assert_close(value, exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(low, exact, rtol=0.3, atol=0.3)
    assert kind not in IS_KL or float(low.detach()) >= 0


@of_both_families
def test_padding_gets_no_gradient_and_tokens_do(kind, family):
    student, teacher = pair(family)
    data = batch(family)
    loss = set_up(LOSSES[kind](), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    loss(student_trace, teacher_trace, data, first(loss))[0].backward()
    token = data["attention_mask"].bool()
    for state in student_trace.hidden.values():
        assert not state.grad[~token].any() and (state.grad[:, 0].any() or kind == "HiddenMSE, nearest")
    for tensor in (
        t for a in student_trace.attention.values() for t in (a.query, a.key, a.value) if t.grad is not None
    ):
        by_token = tensor.grad.transpose(1, 2)
        assert not by_token[~token].any() and by_token[token].any()
    assert any(leaf.grad is not None and leaf.grad.any() for leaf in leaves(student_trace))


@of_both_families
def test_a_row_that_is_all_padding_breaks_nothing(kind, family):
    data = batch(family, size=3)
    full = {key: value[:2] for key, value in data.items()}
    data["attention_mask"][2] = 0
    student, teacher = pair(family)
    loss = set_up(LOSSES[kind](), student, teacher)
    student_trace, teacher_trace = look(loss, student, teacher, data)
    value, count = loss(student_trace, teacher_trace, data, first(loss))
    value.backward()
    assert value.isfinite()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves(student_trace))
    if count != len(data["labels"]):
        torch.testing.assert_close(value, evaluated(kind, family, full)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("impossible", [-1e4, torch.finfo(torch.float32).min])
@pytest.mark.parametrize(
    "distance",
    [
        lambda s, t: forward_kl(s, t, 2.0),
        logits_mse,
        lambda s, t: label_loss(s, torch.tensor([0, 2, 1, 0])),
    ],
)
def test_impossible_classes_change_nothing(distance, impossible):
    student, teacher = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    padded = [torch.cat([z, torch.full((4, 5), impossible)], 1) for z in (student, teacher)]
    padded[0].requires_grad_()
    value = distance(*padded)
    torch.testing.assert_close(value, distance(student, teacher))
    value.sum().backward()
    assert padded[0].grad.isfinite().all() and not padded[0].grad[:, 3:].any()


@every_loss
def test_nothing_is_asked_for_before_setup_and_what_is_compared_after_it(kind):
    loss = LOSSES[kind]()
    assert not loss.student_signals and not loss.teacher_signals
    set_up(loss, *pair("bert"))
    assert loss.student_signals
    assert bool(loss.teacher_signals) == (not kind.startswith("Labels"))


@every_loss
def test_a_loss_on_a_teacher_needs_one(kind):
    loss = LOSSES[kind]()
    if kind.startswith("Labels"):
        loss.setup(tiny("bert").config, None)
    else:
        with pytest.raises(ValueError, match="the run has none"):
            loss.setup(tiny("bert").config, None)


@pytest.mark.parametrize("step, weight", [(0, 0), (19, 0), (20, 3), (59, 3), (60, 0), (100, 0)])
def test_the_weight_counts_from_start_until_before_stop(step, weight):
    loss = LogitsMSE(weight=Constant(3.0), start=TimePoint("20%"), stop=TimePoint("3 epochs"))
    assert loss.at(step, TIMELINE).fields == {"weight": weight}


@pytest.mark.parametrize("text, step", [("30 steps", 30), ("2 epochs", 40), ("70%", 70)])
def test_a_window_may_be_given_before_the_length_of_the_run_is_known(text, step):
    loss = Labels(start=TimePoint(text))
    for now, weight in ((step - 1, 0), (step, 1), (99, 1)):
        assert loss.at(now, TIMELINE).weight == weight


def test_scheduled_fields_follow_the_step():
    loss = Logits(
        weight=Linear(to=1.0), stop=TimePoint("60%"), temperature=Linear(initial=4.0, to=2.0, stop=TimePoint("50%"))
    )
    actual = []
    for step in (0, 25, 50, 60):
        values = loss.at(step, TIMELINE)
        actual.append((values.weight, values["temperature"]))
    assert actual == [(0.0, 4.0), (0.25, 3.0), (0.5, 2.0), (0.0, 2.0)]


def test_the_temperature_of_the_step_is_used():
    loss = Logits(temperature=Linear(initial=4.0, to=2.0))
    loss.setup(tiny("bert").config, tiny("bert").config)
    student, teacher = (Trace(torch.randn(5, 3), {}, {}, {}) for _ in range(2))
    data = {"input_ids": torch.zeros(5, 1, dtype=torch.long)}
    for step, temperature in ((0, 4.0), (50, 3.0), (100, 2.0)):
        expected = forward_kl(student.logits, teacher.logits, temperature).sum()
        torch.testing.assert_close(loss(student, teacher, data, loss.at(step, TIMELINE))[0], expected)


@pytest.mark.parametrize("kind", LOSSES)
def test_what_a_step_gives_does_not_change_and_leaves_nothing_in_the_loss(kind):
    """Another step that is asked for in between, of another epoch, changes nothing of the first."""
    student, teacher, data = *pair("bert"), batch("bert")
    loss = set_up(LOSSES[kind](), student, teacher)
    values, state = first(loss), {name: value for name, value in vars(loss).items() if not name.startswith("_")}
    needs, before = loss.signals_at(values), loss(*look(loss, student, teacher, data), data, values)[0].detach()
    later = loss.at(99, TIMELINE)
    loss.signals_at(later)
    assert {name: value for name, value in vars(loss).items() if not name.startswith("_")} == state
    assert loss.signals_at(values) == needs
    torch.testing.assert_close(loss(*look(loss, student, teacher, data), data, values)[0].detach(), before)
    for change in (lambda: setattr(values, "epoch", 1), lambda: values.fields.update(weight=2.0)):
        with pytest.raises((AttributeError, TypeError)):
            change()
    assert values.with_zero_weight().weight == 0 and values.weight == 1
