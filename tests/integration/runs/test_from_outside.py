"""The examples of docs/extending.md in a run: each class from outside trains, resumes, exports and is loaded again."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import distill
from distill import Report, run
from distill.config.errors import ConfigError
from distill.config.loader import load
from distill.config.writer import to_yaml
from distill.experiment.experiment import Experiment
from tests.helpers.runs import as_one, command, interrupted, rows

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs" / "examples"
SIZES = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
STEPS = 8


def forget(folder: Path) -> None:
    """Make the classes of the files in a folder none that a config can name."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(f"{folder}/"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the examples, whose classes are no longer there after these tests."""
    folder = shutil.copytree(EXAMPLES, tmp_path_factory.mktemp("outside") / "examples")
    yield folder
    forget(folder)


@pytest.fixture(scope="module")
def given(examples: Path, materials: Path) -> dict:
    """What a tiny run of the examples has in the place of BERT and SST-2."""
    return {
        "task.data": str(materials / "data"),
        "task.batch_size": 8,
        "teacher": str(materials / "teacher"),
        "student.sizes": SIZES,
        "quantize.weights.granularity": 8,
        "trainer": {"max_steps": STEPS, "accelerator": "cpu", "log_every_n_steps": 1},
        "output": str(examples / "runs"),
    }


@pytest.fixture(scope="module")
def report(examples: Path, given: dict) -> Report:
    return run(examples / "extended.yaml", name="whole", **given)


def test_each_class_from_outside_has_worked(report: Report) -> None:
    curves = rows(report.folder)
    assert all(float(row["train/hellinger"]) > 0 for row in curves if row["train/hellinger"])
    assert report.task == "balanced_classification" and report.main_metric == "balanced"
    assert report.models["student"].metrics.keys() == {"balanced", "accuracy", "f1", "matthews"}
    sparsity = [float(row["sparsity"]) for row in curves if row["sparsity"]]
    assert 0 < sparsity[2] < sparsity[-1] == pytest.approx(0.5, abs=0.01)
    (export,) = report.exports
    assert (export.format, export.precision, export.agreement) == ("packed", "4-bit", 1.0)
    student = AutoModelForSequenceClassification.from_pretrained(report.folder / "student")
    assert (student.config.hidden_size, student.config.num_hidden_layers) == (16, 1)
    assert student.config.attention == {"kind": "CosineAttention"}
    assert type(student.bert.encoder.layer[0].attention.self.core_attention).__name__ == "Cosine"
    groups = student.bert.encoder.layer[0].intermediate.dense.weight.reshape(-1, 8)
    levels = (6 * groups / groups.abs().amax(1, keepdim=True).clamp(min=1e-12)).abs()
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    assert (levels[..., None] - values).abs().amin(-1).max() < 1e-4


def test_the_config_of_the_run_folder_runs_again_to_the_same(
    report: Report, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = report.folder / "config.yaml"
    assert to_yaml(load(file, Experiment).value) == file.read_text()
    interrupted(monkeypatch, STEPS, file, name="again")
    assert rows(examples / "runs" / "again") == rows(report.folder)


def test_it_resumes_bit_for_bit(examples: Path, given: dict, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    file = examples / "extended.yaml"
    interrupted(monkeypatch, 5, file, name="parts", **given)
    interrupted(monkeypatch, STEPS, file, name="parts", resume=True, **given)
    as_one(report.folder, examples / "runs" / "parts")


def test_a_run_does_not_go_on_with_other_code(examples: Path, given: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    file, loss = examples / "extended.yaml", examples / "loss.py"
    text = loss.read_text()
    interrupted(monkeypatch, 3, file, name="changed", **given)
    try:
        loss.write_text(text.replace("0.5 * ", "0.7 * "))
        why = r"imports: the code of loss\.py is not that with which the run in .* was begun \(comments and docstrings"
        with pytest.raises(ConfigError, match=why):
            run(file, resume=True, name="changed", **given)
        loss.write_text(f"# Hellinger 1909\n{text}")
        interrupted(monkeypatch, STEPS, file, name="changed", resume=True, **given)
    finally:
        loss.write_text(text)


def test_a_run_that_was_moved_goes_on(
    examples: Path, given: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its config.yaml names files that are no longer there."""
    first = shutil.copytree(EXAMPLES, tmp_path / "first")
    given = given | {"output": str(tmp_path / "runs")}
    forget(examples)
    interrupted(monkeypatch, 3, first / "extended.yaml", name="moved", **given)
    forget(first)
    second = first.rename(tmp_path / "second")
    interrupted(monkeypatch, STEPS, second / "extended.yaml", name="moved", resume=True, **given)
    forget(second)


RELOAD = """
import sys
import form
from transformers import AutoModelForSequenceClassification
from quant_aware.export.packed import load

try:
    load(sys.argv[1], AutoModelForSequenceClassification)
except ValueError as error:
    print(error)
import quantizer
print(load(sys.argv[1], AutoModelForSequenceClassification).num_parameters())
"""


def test_another_process_loads_what_it_has_imported(report: Report, examples: Path) -> None:
    environment = {"PYTHONPATH": f"{ROOT}:{examples}", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", RELOAD, str(report.folder)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    file = report.folder / "student.packed.safetensors"
    why = "import quantizer.py, which defines it (the run's `imports`), before loading"
    count = report.models["student"].parameters
    assert done.stdout == f"{file}: there is no quantizer Float4; {why}\n{count}\n", done.stderr


@pytest.mark.slow
def test_every_process_imports_and_a_score_needs_no_whole_model(given: dict, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES, tmp_path / "examples")
    mark = "import os\n\nopen(f'{__file__}.{os.environ.get(\"LOCAL_RANK\", 0)}', 'w').close()\n"
    (folder / "loss.py").write_text(f"{(folder / 'loss.py').read_text()}\n{mark}")
    trainer = given["trainer"] | {"devices": 2, "max_steps": 4, "strategy": "fsdp2"}
    words = [f"--{key}={value}" for key, value in (given | {"trainer": trainer, "output": "runs"}).items()]
    process = command(folder / "extended.yaml", *words)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert [(folder / f"loss.py.{rank}").exists() for rank in (0, 1)] == [True, True]
    sparsity = [float(row["sparsity"]) for row in rows(folder / "runs" / "extended") if row["sparsity"]]
    assert sparsity[-1] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_an_example_is_short_needs_what_is_public_and_stands_in_the_docs(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) < 35  # ten of them for the annotations that `mypy --strict` asks for
    ours = re.findall(r"^(?:from|import) ((?:distill|losses|prune_schedules|quant_aware|students)\b\S*)", text, re.M)
    assert ours == ["distill"]
    assert f"```python\n{text}```" in (ROOT / "docs" / "extending.md").read_text()


def test_what_is_public_is_there_and_in_the_docs() -> None:
    text = (ROOT / "docs" / "extending.md").read_text()
    for name in distill.__all__:
        assert getattr(distill, name).__name__ == name and f"`{name}`" in text


def test_importing_distill_imports_none_of_the_libraries() -> None:
    code = "import sys, distill; print(sorted({'torch', 'transformers', 'lightning', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
