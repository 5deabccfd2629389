"""Files into objects and back, on a schema of its own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from distill.config.errors import ConfigError, did_you_mean
from distill.config.loader import load
from distill.config.schema import describe_type, is_plain_type, subclasses, yaml_name
from distill.config.writer import dump, to_yaml
from distill.experiment.experiment import Experiment
from distill.tasks.augment.augmentation import Augmentation


class Shape(ABC):
    @abstractmethod
    def area(self) -> float: ...


@dataclass(kw_only=True)
class Base(Shape, ABC):
    colour: Literal["red", "blue", 3] = "red"


@dataclass(kw_only=True)
class Square(Base):
    side: float

    def __post_init__(self):
        if self.side <= 0:
            raise ValueError(f"side: must be above 0, not {self.side}")

    def area(self) -> float:
        return self.side**2


@dataclass(kw_only=True)
class Disc(Base):
    radius: float = 1.0
    centre: list[int] | None = None

    def area(self) -> float:
        return 3 * self.radius**2


@dataclass
class Length:
    shorthand: ClassVar[str] = "metres"
    metres: float


@dataclass(kw_only=True)
class Drawing:
    shape: Base | dict[str, Base] | None = None
    size: float | list[float] | dict[str, float] = 1.0
    flag: bool = False
    count: int | str = 1
    words: dict[str, str] = field(default_factory=dict)
    length: Length | None = None


def drawing(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> Drawing:
    (folder / "d.yaml").write_text(text)
    return load(folder / "d.yaml", Drawing, overrides).value


def test_the_shape_of_the_node_decides_a_union(tmp_path: Path) -> None:
    assert drawing(tmp_path, "shape: {kind: Square, side: 2}").shape == Square(side=2.0)
    assert drawing(tmp_path, "shape: {a: {kind: Disc}, b: {kind: Square, side: 1}}").shape == {
        "a": Disc(),
        "b": Square(side=1.0),
    }
    assert drawing(tmp_path, "shape:").shape is None
    assert drawing(tmp_path, "size: [1, 2.5]").size == [1.0, 2.5]
    assert drawing(tmp_path, "length: 3").length == Length(3.0)
    with pytest.raises(ConfigError, match=r"d.yaml:1: shape.kind: no Base 'Sqare'; did you mean 'Square'\?"):
        drawing(tmp_path, "shape: {kind: Sqare, side: 2}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("count: 7", 7),
        ("count: '7'", "7"),
        ("count: seven", "seven"),
        ("flag: yes", True),
        ("size: 3e-5", 3e-5),
        ("size: -1E+3", -1000.0),
        ("size: .5e1", 5.0),
        ("size: 2", 2.0),
    ],
)
def test_plain_values(tmp_path: Path, text: str, value: object) -> None:
    parsed = getattr(drawing(tmp_path, text), text.partition(":")[0])
    assert parsed == value and type(parsed) is type(value)


def test_a_text_needs_no_quotes(tmp_path: Path) -> None:
    assert drawing(tmp_path, "words: {7: 2, on: 2001-01-01, a: 3e-5, b: '', c: null x}").words == {
        "7": "2",
        "on": "2001-01-01",
        "a": "3e-5",
        "b": "",
        "c": "null x",
    }


def test_overrides_change_add_and_replace(tmp_path: Path) -> None:
    text = "shape: {kind: Disc, radius: 2}\nwords: {a: x}"
    assert drawing(tmp_path, text, {"shape.radius": "5"}).shape == Disc(radius=5.0)
    assert drawing(tmp_path, text, {"shape.colour": "blue", "flag": "true"}) == Drawing(
        shape=Disc(radius=2.0, colour="blue"), flag=True, words={"a": "x"}
    )
    assert drawing(tmp_path, text, {"shape": "{kind: Square, side: 1}"}).shape == Square(side=1.0)
    assert drawing(tmp_path, text, {"words.b": "y"}).words == {"a": "x", "b": "y"}, "a mapping of plain values may grow"
    assert drawing(tmp_path, text, {"length.metres": 2}).length == Length(2.0), "a section that the file lacks is made"
    assert drawing(tmp_path, text, {"shape": {"kind": "Disc"}, "size": [1, 2]}).size == [1.0, 2.0], (
        "from Python, values are values"
    )


def test_an_override_may_not_invent_an_object(tmp_path: Path) -> None:
    text = "shape: {left: {kind: Disc}}"
    assert drawing(tmp_path, text, {"shape.left.radius": "2"}).shape == {"left": Disc(radius=2.0)}
    with pytest.raises(ConfigError, match=r"^--shape.lft: shape has no 'lft'; did you mean 'left'\?$"):
        drawing(tmp_path, text, {"shape.lft.radius": "2"})


def test_an_error_after_reading_knows_the_place(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("flag: true\nshape:\n  kind: Disc\n  radius: 2\n")
    config = load(tmp_path / "d.yaml", Drawing, {"shape.centre": "[1, 2]"})
    file = tmp_path / "d.yaml"
    assert str(config.error("shape", "radius: too big")) == f"{file}:4: shape.radius: too big"
    assert str(config.error("shape", "colour: too red")) == f"{file}:3: shape.colour: too red", (
        "a field that was not given: the place of its object"
    )
    assert str(config.error("shape", "somehow: wrong")) == f"{file}:3: shape: somehow: wrong"
    assert str(config.error("shape.centre.1", "too far")) == "--shape.centre: shape.centre.1: too far"
    assert str(config.error("shape.centre", "too\n  far")) == "--shape.centre: too far"
    with pytest.raises(ConfigError, match=r"d.yaml:4: shape.radius: no$"), config.error_context("shape.radius"):
        raise ValueError("no")


def test_a_constructors_error_stands_at_its_mapping(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"d.yaml:3: shape.side: must be above 0, not -1.0$"):
        drawing(tmp_path, "shape:\n  kind: Square\n  side: -1\n")


def test_dump_is_plain_data() -> None:
    value = Drawing(shape={"a": Square(side=2.0)}, size=[1.0], length=Length(3.0))
    assert dump(value) == {
        "shape": {"a": {"kind": "Square", "colour": "red", "side": 2.0}},
        "size": [1.0],
        "flag": False,
        "count": 1,
        "words": {},
        "length": 3.0,
    }


def test_words() -> None:
    assert did_you_mean("temprature", ["temperature", "weight"]) == "; did you mean 'temperature'?"
    assert did_you_mean("zzz", ["temperature"]) == ""
    assert did_you_mean("num_hidden_layers", ["share_layers", "layers"]) == "; did you mean 'layers'?"
    assert did_you_mean("Lstm", ["Linformer", "LSTM"]) == "; did you mean 'LSTM'?"
    assert did_you_mean("share", ["kind", "mlm_probability", "metric"]) == "; did you mean 'mlm_probability'?"
    assert yaml_name(Square) == "Square"
    assert (
        describe_type(Length) == "a Length"
        and describe_type(Literal["a"]) == "a"
        and describe_type(dict[str, Base]) == "a mapping of names to Base"
    )
    assert is_plain_type(dict[str, list[int]]) and not is_plain_type(dict[str, Base])


def test_two_classes_of_one_name_are_refused() -> None:
    class Twin(ABC):
        @abstractmethod
        def f(self) -> None: ...

    def make(parent: type) -> type:
        class Same(parent):
            def f(self) -> None: ...

        return Same

    twins = [make(Twin), make(Twin)]
    with pytest.raises(TypeError, match="two classes are called Same"):
        subclasses(Twin)
    assert len(twins) == 2


@dataclass(kw_only=True)
class Step:
    augment: Augmentation | dict[str, Augmentation]


@pytest.mark.parametrize("written", ["{kind: Masking, probability: 0.2}", "{a: {kind: NGrams}, b: {kind: Masking}}"])
def test_a_class_of_one_field_is_not_shortened_unless_it_says_so(tmp_path: Path, written: str) -> None:
    (tmp_path / "x.yaml").write_text(f"augment: {written}\n")
    value = load(tmp_path / "x.yaml", Step).value
    assert "kind: Masking" in to_yaml(value)
    (tmp_path / "y.yaml").write_text(to_yaml(value))
    assert load(tmp_path / "y.yaml", Step).value == value
    (tmp_path / "x.yaml").write_text("augment: 0.2\n")
    with pytest.raises(ConfigError, match="0.2 is not"):
        load(tmp_path / "x.yaml", Step)


def test_a_tilde_is_the_home_folder_wherever_a_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "x.yaml").write_text(
        "task: {name: classification, data: ~/data, unlabelled: ~/more.csv}\nteacher: {members: {a: ~/a, b: '~'}}\n"
        "student: {kind: Pretrained, model: ~/student}\nlosses: {labels: {kind: Labels}}\noutput: ~/runs\n"
    )
    value = load(tmp_path / "x.yaml", Experiment).value
    paths = [value.task.data, value.task.unlabelled, *(t.model for t in value.teacher.members.values())]
    expected = [str(tmp_path / "home" / name) for name in ("data", "more.csv", "a", "", "student", "runs")]
    assert [*paths, value.student.model, value.output] == [path.rstrip("/") for path in expected]
    assert load(tmp_path / "x.yaml", Experiment, {"output": "~/other"}).value.output == str(tmp_path / "home" / "other")
    assert load(tmp_path / "x.yaml", Experiment, {"task.text": "~a"}).value.task.text == "~a", "no path"
