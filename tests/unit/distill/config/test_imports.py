"""``imports:``: what is imported and when, and what is told of a module that cannot be used."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from distill.config.errors import ConfigError
from distill.config.imports import fingerprints
from distill.config.loader import load, load_all
from distill.config.schema import subclasses
from distill.config.writer import to_yaml
from losses.loss import Loss
from prune_schedules.schedule import Schedule
from tests.helpers.runs import train_command

LOSS = '''\
from dataclasses import dataclass

from distill import LogitsLoss


@dataclass(kw_only=True, eq=False)
class Farness(LogitsLoss):
    """How far the logits are apart.

    Args:
        power: of the distance.
    """

    power: float = 1.0

    def distance(self, student, teacher, labels):
        return (student - teacher).abs().pow(self.power).sum(-1)
'''
UNFINISHED = LOSS.replace("def distance", "def distant")
RAMP = 'from distill import Ramp\n\nclass Linear(Ramp):\n    """Straight."""\n    def progress(self, x): return x\n'


@dataclass(kw_only=True)
class Study:
    """A config of two doors."""

    imports: list[str] = field(default_factory=list)
    loss: Loss
    schedule: Schedule | None = None


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test imports is no longer there after it."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith("/tmp"):
            del sys.modules[name]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A config that names a class of ``mine.py``, beside it."""
    (tmp_path / "mine.py").write_text(LOSS)
    (tmp_path / "study.yaml").write_text("imports: [mine.py]\nloss: {kind: Farness, power: 2.0}\n")
    return tmp_path / "study.yaml"


def test_a_class_of_a_file_beside_has_its_name(file: Path) -> None:
    assert load(file, Study).value.loss.power == 2.0


def test_what_is_written_runs_again_from_anywhere(file: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "config.yaml"
    other.write_text(to_yaml(load(file, Study).value))
    assert load(other, Study).value.imports == [str(file.with_name("mine.py"))]
    assert to_yaml(load(other, Study).value) == other.read_text()


def test_a_module_on_the_path(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    (file.parent / "package_of_mine").mkdir()
    (file.parent / "package_of_mine" / "__init__.py").write_text("from package_of_mine import parts\n")
    (file.parent / "mine.py").rename(file.parent / "package_of_mine" / "parts.py")
    file.write_text("imports: [package_of_mine]\nloss: {kind: Farness}\n")
    config = load(file, Study).value
    assert config.imports == ["package_of_mine"]
    assert fingerprints(config.imports).keys() == {"package_of_mine", "package_of_mine.parts"}


def test_an_override_is_relative_to_the_working_directory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("loss: {kind: Farness}\n")
    (file.parent / "inner").mkdir()
    (file.parent / "mine.py").rename(file.parent / "inner" / "mine.py")
    monkeypatch.chdir(file.parent / "inner")
    assert load(file, Study, {"imports": "[mine.py]"}).value.imports == [str(file.parent / "inner" / "mine.py")]
    with pytest.raises(ConfigError, match=r"^--imports: your\.py: cannot be read: No such file"):
        load(file, Study, {"imports": ["your.py"]})


def test_nothing_is_imported_that_is_not_named(file: Path) -> None:
    (file.parent / "other.py").write_text("raise RuntimeError")
    file.write_text("loss: {kind: Labels}\n")
    load(file, Study)
    assert "Farness" not in subclasses(Loss)


def test_documents_have_what_those_before_them_import(file: Path) -> None:
    file.write_text(file.read_text() + "---\nloss: {kind: Farness}\n---\nimports: []\nloss: {kind: Farness}\n")
    assert [config.value.imports for config in load_all(file, Study)] == [[str(file.with_name("mine.py"))]] * 3


def test_a_file_that_was_changed_is_imported_anew(file: Path) -> None:
    old = load(file, Study).value
    before = fingerprints(old.imports)
    file.with_name("mine.py").write_text(LOSS.replace("power: float = 1.0", "power: float = 1.0\n    more: int = 3"))
    new = load(file, Study).value
    assert not hasattr(old.loss, "more") and new.loss.more == 3
    assert fingerprints(new.imports).keys() == before.keys() and fingerprints(new.imports) != before


def test_comments_and_docstrings_are_no_change(file: Path) -> None:
    before = fingerprints(load(file, Study).value.imports)
    file.with_name("mine.py").write_text("# Mine.\n" + LOSS.replace("How far", "How very far").replace("+ 1", "+1"))
    assert fingerprints(load(file, Study).value.imports) == before


def test_a_module_that_failed_leaves_no_class(file: Path) -> None:
    file.with_name("mine.py").write_text(f"{LOSS}\nraise RuntimeError('late')\n")
    with pytest.raises(ConfigError, match=r"mine\.py:19: RuntimeError: late"):
        load(file, Study)
    assert "Farness" not in subclasses(Loss)
    file.with_name("mine.py").write_text(LOSS)
    load(file, Study)


@pytest.mark.parametrize("name", ["losses", "distill.tasks", "students"])
def test_our_own_modules_are_no_modules_of_the_user(file: Path, name: str) -> None:
    file.write_text(f"imports: [{name}]\n")
    with pytest.raises(ConfigError, match=rf"imports\.0: '{name}' is a module of this library.*written with \.py"):
        load(file, Study)


def test_a_file_that_is_imported_by_its_name_too_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    file.with_name("by_both_names.py").write_text(LOSS.replace("Farness", "ByBothNames"))
    file.write_text("imports: [by_both_names, by_both_names.py]\n")
    try:
        with pytest.raises(ConfigError, match=r"imports\.1: .*ByBothNames is imported twice, by its file and"):
            load(file, Study)
    finally:
        del sys.modules["by_both_names"]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("x = (1\n", r"mine.py:1: SyntaxError: '(' was never closed"),
        ("\nimport nowhere_at_all\n", "mine.py:2: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def f():\n    return 1 / 0\n\nf()\n", "mine.py:2: ZeroDivisionError: division by zero"),
        ("import json\n\njson.loads('x')\n", "mine.py:3: JSONDecodeError: Expecting value"),
        ("exit(3)\n", "mine.py:1: SystemExit: 3"),
        (LOSS.replace("Farness", "Logits"), "mine.py:6: Logits has the same name as another Loss (/"),
        (LOSS * 2, "mine.py:6: Farness has the same name as another Loss (/"),
        (RAMP, "mine.py:3: Linear has the same name as another Schedule (/"),
        (LOSS.replace('"""', "'''").replace("'''How", "x = '''How"), "mine.py:6: Farness has no docstring"),
        (RAMP.replace("Linear", "L").replace('"""Straight."""', "pass"), "mine.py:3: L has no docstring"),
        (UNFINISHED, "mine.py:6: Farness is abstract: implement distance of Loss"),
        (
            LOSS.replace("@dataclass(kw_only=True, eq=False)", ""),
            "mine.py:7: Farness has fields (power) and is no data",
        ),
        (
            LOSS.replace(", eq=False", ""),
            "mine.py:6: Farness cannot be hashed, as a Loss must be; write @dataclass(kw_",
        ),
        (LOSS.replace("power: float", "power: complex"), "mine.py:6: Farness has a field power that YAML cannot hold"),
        (
            LOSS.replace("power: float", "power: 'Flat'"),
            "mine.py:6: Farness has a field of an unknown type: name 'Flat'",
        ),
        (f"{RAMP}\n".replace("Linear", "L").replace("(Ramp)", "(Ramp, 1)"), "mine.py:3: TypeError: "),
    ],
)
def test_what_is_wrong_with_a_module_is_told_in_a_line(file: Path, module: str, line: str) -> None:
    file.with_name("mine.py").write_text(module)
    with pytest.raises(ConfigError) as caught:
        load(file, Study)
    folder = file.parent
    assert str(caught.value).startswith(f"{file}:1: imports.0: {folder / line}")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nowhere_at_all", "there is no module 'nowhere_at_all' on Python's path; a file is written with .py"),
        ("mine", "there is no module 'mine' on Python's path; did you mean the file 'mine.py'?"),
        ("your.py", "your.py: cannot be read: No such file or directory"),
        ("./mine", "'./mine' is neither a module name nor a .py file"),
        (".", "'.' is neither a module name"),
    ],
)
def test_what_is_not_there(file: Path, name: str, line: str) -> None:
    file.write_text(f"imports:\n- {name!r}\nloss: {{kind: Labels}}\n")
    with pytest.raises(ConfigError) as caught:
        load(file, Study)
    assert str(caught.value).startswith(f"{file}:2: imports.0: {line}")


@pytest.mark.parametrize("given", ["mine.py", "3", "[3]", "{mine.py: 1}"])
def test_what_is_no_list_of_names(file: Path, given: str) -> None:
    file.write_text(f"imports: {given}\nloss: {{kind: Labels}}\n")
    with pytest.raises(ConfigError, match=r"study\.yaml:1: imports"):
        load(file, Study)


def test_a_base_of_ones_own_needs_no_end(file: Path) -> None:
    base = LOSS.replace("class Farness(LogitsLoss)", "class Base(LogitsLoss)").replace("Args:", "Fields:")
    base = base.replace("    def distance", "    @abstractmethod\n    def distance")
    child = 'class Farness(Base):\n    """Far."""\n    def distance(self, *logits): return logits[0][..., 0]\n'
    file.with_name("mine.py").write_text(f"from abc import abstractmethod\n{base}\n\n{child}")
    assert load(file, Study).value.loss.power == 2.0 and "Base" not in subclasses(Loss)


def test_the_help_of_a_config_has_its_classes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_command(["--help", "losses.Farness", "--config", str(file)]) == 0
    text = capsys.readouterr().out
    assert "How far the logits are apart." in text and "of the distance" in text
