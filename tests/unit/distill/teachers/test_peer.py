"""Two students that teach each other: who learns what from whom, and a whole run with them."""

import pytest
import torch

from distill import run
from distill.config.loader import ConfigError
from distill.experiment.optimizer import Optimizer
from distill.teachers.peer import LearningPeer, Peer, uses_logits_only
from distill.training.module import Distillation
from losses.outputs.correlation import DIST
from losses.outputs.labels import Labels
from losses.outputs.logits import Logits
from losses.pairs.attention import AttentionKL
from losses.states.hidden import HiddenMSE
from prune_schedules.schedule import Constant, Timeline, TimePoint
from students.kinds.transformer import Transformer
from students.recording.signals import Signals
from students.recording.trace import Recorder
from tests.helpers.families import tiny
from tests.helpers.repositories import save_tiny_bert
from tests.helpers.runs import checkpoint, resumes_bit_for_bit
from tests.helpers.worlds import three_classes
from tests.unit.distill.training.test_module import collate, fit, rows

LOSSES = {"labels": {"kind": "Labels"}, "logits": {"kind": "Logits", "temperature": 2.0, "start": "25%"}}


def still(model: torch.nn.Module) -> torch.nn.Module:
    """Without dropout, so that a forward pass can be repeated."""
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return model


def built(**losses) -> Distillation:
    torch.manual_seed(0)
    student, peer = still(tiny("bert", layers=2)), still(tiny("bert", layers=3))
    with torch.no_grad():
        for p in peer.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    for loss in losses.values():
        loss.setup(student.config, peer.config)
    return Distillation(student, LearningPeer(peer), losses, three_classes(), Optimizer(lr=1e-3), Timeline(2, 1))


def written_down(learner: torch.nn.Module, other: torch.nn.Module, losses: dict) -> dict[str, torch.Tensor]:
    """The gradient of one that learns from the other, by plain autograd on all rows."""
    batch, total = collate(rows()), 0.0
    learning, fixed = (Recorder(still(model).train()) for model in (learner, other))
    for loss in losses.values():
        loss.setup(learner.config, other.config)
        values = loss.at(0, Timeline(2, 1))
        with torch.no_grad():
            message = fixed.trace(batch, loss.teacher_signals | Signals(logits=True))
        value, count = loss(learning.trace(batch, loss.student_signals), message, batch, values)
        total = total + values.weight * value / count
    total.backward()
    return {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("split", [(8, 1), (2, 4)])
def test_each_has_the_gradient_of_a_student_whose_teacher_is_the_other(tmp_path, split):
    gradients = fit(
        built(labels=Labels(), logits=Logits(temperature=Constant(2.0)), hidden=HiddenMSE()), *split, tmp_path
    ).gradients
    for part, losses in (
        ("student", {"labels": Labels(), "logits": Logits(temperature=Constant(2.0)), "hidden": HiddenMSE()}),
        ("peer", {"labels": Labels(), "logits": Logits(temperature=Constant(2.0))}),
    ):
        again = built(**losses)
        pair = (again.student, again.peer) if part == "student" else (again.peer, again.student)
        expected = written_down(*pair, losses)
        part_gradients = {name.removeprefix(f"{part}."): g for name, g in gradients.items() if name.startswith(part)}
        assert part_gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(part_gradients[name], gradient, atol=1e-6, rtol=1e-4, msg=f"{part} {name}")


def test_before_the_start_of_a_loss_on_the_other_both_learn_from_labels_alone(tmp_path):
    gradients = fit(built(labels=Labels(), logits=Logits(start=TimePoint("50%"))), 8, 1, tmp_path).gradients
    for part in ("student", "peer"):
        again = built()
        expected = written_down(getattr(again, part), again.student, {"labels": Labels()})
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[f"{part}.{name}"], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_both_are_in_train_mode_and_both_move(tmp_path):
    module = built(labels=Labels(), logits=Logits())
    before = {name: p.clone() for name, p in module.named_parameters()}
    assert fit(module, 4, 1, tmp_path).modes == (True, True)
    for part in ("student", "peer"):
        assert not torch.equal(before[f"{part}.classifier.weight"], getattr(module, part).classifier.weight)


def test_only_losses_on_logits_can_be_turned_round():
    pair = tiny("bert", layers=2).config, tiny("bert", layers=4).config
    losses = [Labels(), Logits(), DIST(), HiddenMSE(), AttentionKL()]
    for loss in losses:
        loss.setup(*pair)
    assert [uses_logits_only(loss) for loss in losses] == [True, True, True, False, False]


def test_a_peer_has_the_shape_and_the_labels_of_the_student():
    student = tiny("bert", layers=2)
    peer = Peer(peer=Transformer(weights="random")).create_online(student).model
    assert {n: p.shape for n, p in peer.named_parameters()} == {n: p.shape for n, p in student.named_parameters()}
    assert peer.config.id2label == student.config.id2label
    assert not torch.equal(peer.classifier.weight, student.classifier.weight)


@pytest.fixture
def given(materials) -> dict:
    """Makes the tiny run one of two students."""
    peer = {"kind": "Transformer", "layers": 2, "weights": "random"}
    return {"teacher": {"peer": peer}, "student": str(materials / "teacher"), "losses": LOSSES}


@pytest.mark.parametrize("stop", [3, 12])
def test_resumes_bit_for_bit(tiny_run, monkeypatch, given, stop):
    folder = resumes_bit_for_bit(monkeypatch, stop, 16, tiny_run, **given)
    assert {name.split(".")[0] for name in checkpoint(folder)["state_dict"]} == {"student", "peer"}


def test_a_whole_run_deploys_the_student_alone(tiny_run, given):
    report = run(tiny_run, **given | {"prune": None, "quantize": None})
    assert set(report.models) == {"student"}
    assert not any("peer" in path.name for path in (report.folder / "student").iterdir())


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("losses", {"logits": LOSSES["logits"] | {"start": "0%"}}, r"losses: all use the teacher"),
        ("teacher", {"peer": {"kind": "Transformer", "layers": 9}}, r"teacher\.peer\.layers: the teacher has 4 blocks"),
        ("teacher", {"peer": "./nowhere"}, r"teacher\.peer\.model: there is no folder './nowhere'"),
    ],
)
def test_a_mistake(tiny_run, given, key, value, message):
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, **given | {key: value})
    assert not (tiny_run.parent / "runs").exists()


def test_a_peer_of_other_words_is_refused(tiny_run, given, tmp_path):
    save_tiny_bert(tmp_path / "other", layers=1, hidden=32, heads=4, labels=["negative", "positive"])
    words = tmp_path / "other" / "tokenizer.json"
    words.write_text(words.read_text().replace('"great"', '"grand"'))
    with pytest.raises(ConfigError, match=r"teacher\.peer\.model: it reads other tokens: row "):
        run(tiny_run, **given | {"teacher": {"peer": str(tmp_path / "other")}})
