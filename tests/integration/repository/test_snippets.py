"""Every snippet of the documentation can be used: YAML is read as a config, Python is compiled, commands exist."""

import gc
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from distill.command.configs import parse_overrides
from distill.command.main import NAMES
from distill.experiment.runs import read_runs

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"yaml", "python", "bash", "mermaid", "text", "js", ""}
"""What stands in js, tests/integration/exports/test_javascript.py runs."""
SWEEP = "# sweep.yaml"
"""The first line of a file of W&B, which tests/integration/runs/tracking reads."""
OWN = {"first.yaml"}
"""A config that its page shows, and test_first_run.py runs."""
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.M | re.S)
AROUND = {
    "task": {"name": "classification", "data": "nyu-mll/glue/sst2"},
    "teacher": "textattack/bert-base-uncased-SST-2",
    "student": {"kind": "Transformer", "layers": 4},
    "losses": {"logits": {"kind": "Logits"}},
}
"""What a snippet leaves out."""


def snippets(language: str) -> list:
    """The snippets of a language, each with its page for a name."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in BLOCK.finditer(text):
            line = text[: block.start()].count("\n") + 1
            if block[2] == language and not block[3].lstrip().startswith(SWEEP):
                found.append(pytest.param(textwrap.dedent(block[3]), id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def test_a_block_is_of_a_language_that_is_checked():
    assert {kind for page in PAGES for _, kind, _ in BLOCK.findall(page.read_text())} <= LANGUAGES


@pytest.fixture
def examples() -> Iterator[Path]:
    """The folder of the modules that snippets import, whose classes are no longer there after the test."""
    folder = ROOT / "docs" / "examples"
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(f"{folder}/"):
            del sys.modules[name]
    gc.collect()


@pytest.mark.parametrize("code", snippets("yaml"))
def test_yaml_is_read_as_a_config(code, examples, tmp_path):
    documents = [AROUND | document for document in yaml.safe_load_all(code)]
    for document in documents:
        if "imports" in document:
            document["imports"] = [str(examples / name) for name in document["imports"]]
    (tmp_path / "snippet.yaml").write_text(yaml.safe_dump_all(documents))
    assert len(read_runs(tmp_path / "snippet.yaml", {})) == len(documents)


@pytest.mark.parametrize("code", snippets("python"))
def test_python_is_compiled(code):
    compile(code, "snippet", "exec")


@pytest.mark.parametrize("code", snippets("bash"))
def test_commands_name_verbs_configs_and_targets_that_exist(code):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert words[1] in targets
        if "distill" in words[:2]:  # behind srun as well
            assert words[words.index("distill") + 1] in [*NAMES, "--help"]
        if {"train", "check", "plan"} & set(words) and "distill" in words and not OWN & set(words):
            file, *rest = [word for word in words[words.index("distill") + 2 :] if word != "--config"]
            overrides = parse_overrides([word for word in rest if word.startswith("--")])
            assert read_runs(ROOT / file if (ROOT / file).exists() else file, overrides)
