"""Code that lies beside a model is never run, and nobody is asked whether it may be."""

import ast
import builtins
import json
import shutil
from pathlib import Path

import pytest

from students.loading.adapters import load_config, load_tokenizer
from tests.unit.distill.run_dir.test_disk import error_line

ROOT = Path(__file__).parents[3]
CODE = "open(__file__ + '.ran', 'w').close()\nraise SystemExit('ran')\n"


def with_code(folder: Path, source: Path, file: str, **fields: object) -> Path:
    """A copy of a model whose config, or tokenizer's, says that its class is in a file beside it."""
    shutil.copytree(source, folder)
    config = json.loads((folder / file).read_text()) | fields
    (folder / file).write_text(json.dumps(config))
    (folder / "own.py").write_text(CODE)
    return folder


OWN = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.OwnModel", "AutoModel": "own.OwnModel"}


@pytest.mark.parametrize("key", ["teacher", "student", "teacher.peer", "augmentation"])
def test_it_is_refused_in_a_line(capsys, monkeypatch, tmp_path, materials, tiny_run, key) -> None:
    def ask(*words: object) -> str:
        raise AssertionError(f"asked: {words}")

    monkeypatch.setattr(builtins, "input", ask)
    model = with_code(tmp_path / "own", materials / "teacher", "config.json", model_type="own", auto_map=OWN)
    words = {
        "teacher": [f"--teacher={model}"],
        "student": [f"--student={model}"],
        "teacher.peer": [f"--teacher={{peer: {model}}}", f"--student={materials / 'teacher'}"],
        "augmentation": [f"--task.augment={{kind: WordReplacement, model: {model}}}"],
    }
    line = error_line(capsys, 2, ["--config", str(tiny_run), *words[key]])
    assert (
        line.startswith(f"{tiny_run}:1: task: " if key == "augmentation" else "--")
        and "needs code that lies beside it, which is never run here" in line
    )
    assert not (model / "own.py.ran").exists() and not (tmp_path / "runs").exists()


def test_code_beside_a_stock_model_is_left_alone(monkeypatch, tmp_path, materials) -> None:
    monkeypatch.setattr(builtins, "input", None)
    model = with_code(tmp_path / "model", materials / "teacher", "config.json", auto_map=OWN)
    assert load_config(str(model)).num_hidden_layers == 4
    fields = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    other = with_code(tmp_path / "tokenizer", materials / "teacher", "tokenizer_config.json", **fields)
    assert load_tokenizer(str(other)).get_vocab() == load_tokenizer(str(materials / "teacher")).get_vocab()
    assert not list(tmp_path.glob("*/own.py.ran"))


def test_a_data_set_with_a_script_is_refused(capsys, tmp_path, tiny_run) -> None:
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted" / "scripted.py").write_text(CODE)
    for name in ("scripted", "scripted/scripted.py"):
        line = error_line(capsys, 2, ["--config", str(tiny_run), f"--task.data={tmp_path / name}"])
        assert line.startswith("--task.data: ")
    assert not (tmp_path / "scripted" / "scripted.py.ran").exists()


def test_whatever_is_loaded_by_name_says_so() -> None:
    """``from_pretrained`` asks on stdin unless it is told not to."""
    silent = []
    for room in ("distill", "students", "losses", "prune_schedules", "quant_aware"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained":
                    owner = ast.unparse(node.func.value)
                    given = {keyword.arg or ast.unparse(keyword.value) for keyword in node.keywords}
                    if owner != "PeftModel" and not given & {"trust_remote_code", "NO_REMOTE_CODE"}:
                        silent.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert silent == []
