"""Several teachers as one: outputs together, hidden states by name, one run with two of them."""

import csv
import json

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from distill import run
from distill.config.loader import ConfigError
from distill.evaluation.measure import count_parameters, torch_predict
from distill.tasks.classes import Classes
from distill.tasks.kinds.language.causal import CausalLM
from distill.tasks.kinds.language.sequences import Seq2Seq
from distill.tasks.kinds.several import MultiTask
from distill.tasks.kinds.texts import Classification, Regression
from distill.teachers.ensemble import Ensemble, EnsembleModel, Teachers, combine_logits, combine_task_logits
from distill.teachers.teacher import FrozenTeacher, Teacher
from students.recording.signals import Signals
from tests.helpers.families import batch, tiny
from tests.helpers.repositories import save_tiny_bert
from tests.helpers.worlds import three_classes

LOGITS = [3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3)]


def test_the_mean_is_of_probabilities():
    combined = combine_logits(LOGITS, [1.0, 2.0, 5.0])
    expected = sum(w * softmax(z.numpy(), -1) for w, z in zip((1 / 8, 2 / 8, 5 / 8), LOGITS, strict=True))
    np.testing.assert_allclose(combined.exp(), expected, rtol=1e-5)
    assert logsumexp(combined.double().numpy(), -1) == pytest.approx(0, abs=1e-6)


def test_the_surest_of_each_prediction():
    combined = combine_logits(LOGITS, [1.0, 1.0, 1.0], "confident")
    for row in range(5):
        surest = max(LOGITS, key=lambda z: softmax(z[row].numpy()).max())
        torch.testing.assert_close(combined[row], surest[row].float())


def test_numbers_have_a_plain_mean():
    first_class = [z[:, :1] for z in LOGITS]
    expected = (first_class[0] + 3 * first_class[1] + 4 * first_class[2]) / 8
    for combine in ("mean", "confident"):
        torch.testing.assert_close(combine_logits(first_class, [1.0, 3.0, 4.0], combine), expected.float())


@pytest.mark.parametrize("combine", ["mean", "confident"])
def test_the_heads_of_other_tasks_have_no_share(combine):
    several = MultiTask(tasks={"taste": Classification(data="x"), "length": Regression(data="x")})
    several.tasks["taste"].classes, several.tasks["length"].classes = (Classes(n) for n in (["a", "b"], [""]))
    several.join_classes()
    heads = [torch.tensor([[0.5, -1.0, 3.0]]), torch.tensor([[9.0, 2.0, 3.2]])]
    taste, length = (
        several.select_logits(combine_task_logits(heads, [1.0, 1.0], combine, several, batch), batch)
        for batch in ({"task": torch.tensor([number])} for number in range(2))
    )
    torch.testing.assert_close(length, torch.tensor([[3.1]]))
    torch.testing.assert_close(taste, combine_logits([head[:, :2] for head in heads], [1.0, 1.0], combine))


@pytest.mark.parametrize("combine", ["mean", "confident"])
def test_a_vocabularys_padding_has_no_share(combine):
    task = CausalLM(data="x")
    task.tokenizer = range(4)  # all that is asked of it is how long it is
    padded = [torch.cat([LOGITS[0], torch.full((5, 2), 9.0)], 1), torch.cat([LOGITS[1], torch.full((5, 1), 7.0)], 1)]
    combined = combine_task_logits(padded, [1.0, 2.0], combine, task, {})
    torch.testing.assert_close(combined, combine_logits(LOGITS[:2], [1.0, 2.0], combine))


@pytest.mark.parametrize("combine", ["mean", "confident"])
def test_equal_teachers_are_one(combine):
    combined = combine_logits([LOGITS[0]] * 3, [1.0, 2.0, 3.0], combine)
    torch.testing.assert_close(combined.softmax(-1), LOGITS[0].float().softmax(-1))


def two(combine: str = "mean") -> tuple[Ensemble, dict[str, torch.nn.Module]]:
    models = {"a": tiny("bert", layers=2).eval(), "b": tiny("bert", layers=4).eval()}
    with torch.no_grad():
        models["b"].classifier.weight += 1.0
    return Ensemble(
        {name: FrozenTeacher(model) for name, model in models.items()}, [1.0, 3.0], combine, three_classes()
    ), models


def test_a_site_says_whose_it_is():
    ensemble, models = two()
    data = batch("bert")
    signals = Signals(logits=True, hidden=frozenset({("a/encoder", 1), ("b/encoder", 4)}))
    trace = ensemble.trace(data, signals)
    assert trace.hidden.keys() == signals.hidden
    for name, layer in (("a", 1), ("b", 4)):
        alone = FrozenTeacher(models[name]).trace(data, Signals(hidden=frozenset({("encoder", layer)})))
        torch.testing.assert_close(trace.hidden[f"{name}/encoder", layer], alone.hidden["encoder", layer])
    logits = [torch_predict(model)(data) for model in models.values()]
    torch.testing.assert_close(trace.logits, combine_logits(logits, [1.0, 3.0]))


def test_who_is_not_asked_does_not_run(monkeypatch):
    ensemble, _ = two()
    monkeypatch.delattr(ensemble.members["b"], "recorder")
    trace = ensemble.trace(batch("bert"), Signals(hidden=frozenset({("a/encoder", 2)})))
    assert trace.logits is None and list(trace.hidden) == [("a/encoder", 2)]


def test_the_joint_model_is_the_ensemble_and_as_large_as_both():
    ensemble, models = two("confident")
    data, joint = batch("bert"), EnsembleModel(models, [1.0, 3.0], "confident", three_classes())
    torch.testing.assert_close(torch_predict(joint)(data), ensemble.trace(data, Signals(logits=True)).logits)
    assert count_parameters(joint)[0] == sum(count_parameters(model)[0] for model in models.values())


def test_the_joint_model_of_decoders_with_a_text_of_their_own():
    models = {name: tiny("t5", layers=layers, head="language").eval() for name, layers in (("a", 1), ("b", 2))}
    task = Seq2Seq(data="x", source="left", target="right")
    task.tokenizer, data = range(90), batch("t5", head="language")
    combined = torch_predict(EnsembleModel(models, [1.0, 1.0], "mean", task))(data)
    separate = [torch_predict(model)(data)[..., :90] for model in models.values()]
    torch.testing.assert_close(combined, combine_logits(separate, [1.0, 1.0]))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"members": {"a": "x"}}, "members: needs two teachers or more"),
        ({"members": {"a": "x", "b/c": "y"}}, "'b/c' is not a valid name"),
        ({"members": {"a": "x", "b": "y"}, "weights": {"c": 1.0}}, "weights: there is no teacher 'c'; there are a, b"),
        ({"members": {"a": "x", "b": "y"}, "weights": {"b": 0.0}}, "weights: must be above 0"),
    ],
)
def test_a_wrong_field(fields, message):
    fields["members"] = {name: Teacher(model=model) for name, model in fields["members"].items()}
    with pytest.raises(ValueError, match=message):
        Teachers(**fields)


@pytest.fixture
def second(materials, tmp_path_factory):
    """Another teacher of the same data, 3 layers."""
    folder = tmp_path_factory.mktemp("second") / "teacher"
    save_tiny_bert(folder, layers=3, hidden=32, heads=4, labels=["negative", "positive"])
    return str(folder)


def test_a_run_with_two_teachers(materials, tiny_run, second):
    members = {"large": {"model": str(materials / "teacher"), "cache": True}, "other": second}
    given = {
        "teacher": {"members": members, "weights": {"large": 2.0}},
        "losses.hidden.teacher": "other",
        "losses.relations.teacher": "large",
        "quantize": None,
    }
    report = run(tiny_run, **given)
    assert {"teacher", "teacher large", "teacher other", "student"} <= report.models.keys()
    teacher, *each = (report.models[name] for name in ("teacher", "teacher large", "teacher other"))
    assert teacher.parameters == sum(model.parameters for model in each)
    assert teacher.flops_per_example == sum(model.flops_per_example for model in each)
    folder = tiny_run.parent / "runs" / "tiny"
    # 64 rows, 2 epochs: a loss looks at its attention, which no cache keeps
    assert "large: ran for 128 rows" in " ".join(json.loads((folder / "report.json").read_text())["notes"])
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert all(float(rows[0][f"train/{name}"]) > 0 for name in ("hidden", "relations", "logits"))


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, r"losses.hidden.teacher: the run has several teachers; name one of large, other"),
        (
            {"losses.hidden.teacher": "othr"},
            r"losses.hidden.teacher: the run has several teachers; name one of large, other",
        ),
        ({"teacher.members.other": "/nowhere", "losses": {"logits": {"kind": "Logits"}}}, r"teacher.members.other"),
        ({"teacher.weigths": {"large": 1.0}}, r"teacher.weigths: Teachers has no 'weigths'; did you mean 'weights'"),
    ],
)
def test_a_mistake_with_two_teachers(materials, tiny_run, second, given, message):
    members = {"large": str(materials / "teacher"), "other": second}
    with pytest.raises(ConfigError, match=message):
        run(tiny_run, **({"teacher": {"members": members}} | given))
    assert not (tiny_run.parent / "runs").exists()


def test_a_single_teacher_has_no_name(tiny_run):
    with pytest.raises(ConfigError, match="losses.hidden.teacher: 'large' names one of several"):
        run(tiny_run, **{"losses.hidden.teacher": "large"})


def test_outputs_of_other_names_are_refused(materials, tiny_run, tmp_path):
    save_tiny_bert(tmp_path / "other", layers=2, hidden=32, heads=4, labels=["sad", "happy"])
    members = {"large": str(materials / "teacher"), "other": str(tmp_path / "other")}
    message = "teacher.members.other.model: its outputs are sad, happy, the classes of the data negative, positive"
    with pytest.raises(ConfigError, match=message):
        named = {"losses.hidden.teacher": "large", "losses.relations.teacher": "large"}
        run(tiny_run, teacher={"members": members}, **named)
