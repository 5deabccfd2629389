"""What the command imports before it answers: never a time, always which libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.mistakes.mistakes import GOOD

ROOT = Path(__file__).parents[3]
HEAVY = {
    "datasets",
    "lightning",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "peft",
    "scipy",
    "sympy",
    "torchmetrics",
    "transformers",
    "wandb",
}
"""Each takes from half a second to several."""
COMMAND = """
import json, sys
from distill.command.main import main
code = main(["train", *sys.argv[1:]])
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imported(code: str, *words: str, folder: Path = ROOT) -> list:
    """Return what a process of its own prints last, as JSON."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment, cwd=folder, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--help", "loses"], 2),
        ([], 2),
        (["--config", "nowhere.yaml"], 2),
        (["--config", "bad.yaml"], 2),
        (["--config", "good.yaml", "--outptu=x"], 2),
    ],
)
def test_what_needs_no_class_does_not_import_torch(tmp_path: Path, words: list[str], code: int) -> None:
    (tmp_path / "bad.yaml").write_text("task: {\n")
    (tmp_path / "good.yaml").write_text(GOOD)
    ended, modules = imported(COMMAND, *words, folder=tmp_path)
    assert ended == code
    assert (HEAVY | {"torch", "numpy", "pydantic"}).intersection(modules) == set()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--config", "misspelt.yaml"], 2),
        (["--config", "good.yaml", "--losses.logits.temprature=2"], 2),
        (["--help", "losses"], 0),
        (["--help", "student.Transformer"], 0),
    ],
)
def test_what_needs_classes_imports_torch_alone(tmp_path: Path, words: list[str], code: int) -> None:
    """Also where the trainer's section, whose keys are Lightning's, stands before the mistake."""
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "misspelt.yaml").write_text(
        "trainer: {max_epochs: 1}\nlosses: {logits: {kind: Logits, temprature: 1}}\n"
    )
    ended, modules = imported(COMMAND, *words, folder=tmp_path)
    assert ended == code
    assert HEAVY.intersection(modules) == set() and "torch" in modules


def test_the_package_is_imported_for_its_names_alone() -> None:
    modules = imported("import json, sys, distill\nprint(json.dumps(sorted(sys.modules)))")
    assert (HEAVY | {"torch"}).intersection(modules) == set()


def test_an_import_of_students_makes_transformers_know_ours() -> None:
    code = "import json, students\nfrom transformers import AutoConfig\n"
    code += "print(json.dumps([AutoConfig.for_model(name).model_type for name in ('compact-bert', 'recurrent')]))"
    assert imported(code) == ["compact-bert", "recurrent"]
