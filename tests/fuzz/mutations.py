"""Configs that are almost right: the shipped ones with a few mutations that follow the schema, for the fuzzer."""

from __future__ import annotations

import copy
import random
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml

from distill.config.schema import schema_of, selector, subclasses, union_members
from distill.experiment.experiment import Experiment
from prune_schedules.schedule import TimePoint
from tests.fuzz.awkward import CHARACTERS, NUMBERS, RAW, TEXTS


class Raw(str):
    """Words that stand in the file as they are."""


def data_of(text: str) -> list[dict]:
    """The documents of a config."""
    return list(yaml.safe_load_all(text))


def mutated(draw: random.Random, documents: list[dict], well_typed: float = 0.4) -> tuple[str, dict[str, str]]:
    """The text of a config that was mutated a few times, and overrides.

    Args:
        draw: where chance comes from.
        documents: of a good config; left as they are.
        well_typed: the share of mutations that keep to the schema, which later checks see.
    """
    documents = copy.deepcopy(documents)
    for _ in range(draw.choice([0, 1, 1, 1, 2, 2, 3, 5])):
        document = draw.choice(documents)
        (_keep_to_the_schema if draw.random() < well_typed else _break)(draw, document)
    text = "---\n".join(written(document) for document in documents)
    while draw.random() < 0.25 * (1 - well_typed):
        text = _scribbled(draw, text)
    words = {}
    while draw.random() < 0.3:
        words |= _override(draw, draw.choice(documents))
    return text, words


def written(value: Any) -> str:
    """YAML; of ``Raw`` words what they say."""
    return _Dumper.text(value)


class _Dumper(yaml.SafeDumper):
    @classmethod
    def text(cls, value: Any) -> str:
        raws: list[str] = []

        def mark(item: Any) -> Any:
            if isinstance(item, Raw):
                raws.append(item)
                return f"raw@{len(raws) - 1}@"
            if isinstance(item, dict):
                return {mark(k): mark(v) for k, v in item.items()}
            return [mark(i) for i in item] if isinstance(item, list) else item

        text = yaml.dump(mark(value), Dumper=cls, sort_keys=False, allow_unicode=True, default_flow_style=None)
        for number, raw in enumerate(raws):
            text = text.replace(f"raw@{number}@", raw)
        return text

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _keep_to_the_schema(draw: random.Random, document: dict) -> None:
    """Gives some object of the document a value of the right type in one of its fields, or takes one away."""
    mapping, cls = draw.choice(list(objects(document, Experiment)))
    kinds = {} if cls is Experiment else {c: k for k, c in subclasses(_base(cls)).items()}
    schema = schema_of(cls)
    chance = draw.random()
    if chance < 0.15 and len(kinds) > 1 and selector(cls) in mapping:
        mapping[selector(cls)] = draw.choice(list(kinds.values()))
    elif chance < 0.3 and len(mapping) > 1:
        del mapping[draw.choice(list(mapping))]
    elif schema:
        name = draw.choice(list(schema))
        mapping[name] = value_of(draw, schema[name])


def _base(cls: type) -> type:
    bases = [base for base in cls.__mro__ if is_dataclass(base) and base.__module__ != "builtins"]
    return bases[-1]


def objects(value: Any, hint: Any) -> Iterator[tuple[dict, type]]:
    """The mappings in a document that stand for objects, with their classes."""
    if not isinstance(value, dict):
        return
    for member in union_members(hint):
        if get_origin(member) is dict and is_dataclass(get_args(member)[1]):
            for inner in value.values():
                yield from objects(inner, get_args(member)[1])
        elif is_dataclass(member):
            name = value.get(selector(member))
            cls = subclasses(member).get(name, member) if isinstance(name, str) else member
            yield value, cls
            for key, inner in schema_of(cls).items():
                if key in value:
                    yield from objects(value[key], inner)


def value_of(draw: random.Random, hint: Any, depth: int = 0) -> Any:
    """A value that the reader takes for a hint, as a rule."""
    if get_origin(hint) is Annotated:
        allowed = hint.__metadata__[0]()
        names = draw.sample(list(allowed), min(len(allowed), draw.randint(0, 3)))
        return {name: value_of(draw, allowed[name], depth + 1) for name in names}
    member = draw.choice(union_members(hint))
    if member is types.NoneType:
        return None
    if get_origin(member) is Literal:
        return draw.choice(get_args(member))
    if get_origin(member) is list:
        return [value_of(draw, get_args(member)[0], depth + 1) for _ in range(draw.choice([0, 1, 1, 2, 3]))]
    if get_origin(member) is dict:
        key, inner = get_args(member)
        keys = [value_of(draw, key, depth + 1) for _ in range(draw.choice([0, 1, 1, 2]))]
        return {name: value_of(draw, inner, depth + 1) for name in keys}
    if member is TimePoint:
        return draw.choice(["0%", "10%", "50%", "100%", "1 epochs", "3 steps", "0 steps", "99.9%"])
    if is_dataclass(member):
        return _object(draw, member, depth)
    if member is bool:
        return draw.random() < 0.5
    if member is int:
        return draw.choice([n for n in NUMBERS if isinstance(n, int)])
    if member is float:
        return float(draw.choice([*NUMBERS[:14], 0.1, 0.2, 0.9] if draw.random() < 0.8 else NUMBERS))
    return draw.choice(TEXTS)


def _object(draw: random.Random, base: type, depth: int) -> Any:
    known = subclasses(base)
    name = draw.choice(list(known))
    cls = known[name]
    values = {selector(base): name} if len(known) > 1 else {}
    for key, hint in schema_of(cls).items():
        default = cls.__dataclass_fields__[key]
        needed = default.default is default.default_factory  # both MISSING
        if needed or (depth < 3 and draw.random() < 0.25):
            values[key] = value_of(draw, hint, depth + 1)
    return values


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from _places(inner)


def _awkward(draw: random.Random) -> Any:
    plain = [None, [], {}, [[]], [None], {"a": {}}, {"kind": "Linear", "to": 1.0}, {"kind": None}, {"kind": []}]
    return draw.choice([draw.choice(NUMBERS), draw.choice(TEXTS), Raw(draw.choice(RAW)), draw.choice(plain)])


def _break(draw: random.Random, document: dict) -> None:
    """Puts a value of any type somewhere, or takes, renames, copies what is there."""
    where = list(_places(document))
    if not where:
        document["task"] = _awkward(draw)
        return
    holder, key = draw.choice(where)
    way = draw.randrange(6)
    if way < 2:
        holder[key] = _awkward(draw)
    elif way == 2:
        del holder[key]
    elif way == 3 and isinstance(holder, dict):
        names = [f"{key}s", str(key).upper(), f"{key}.x", Raw(draw.choice(RAW[:60])), draw.choice(TEXTS), str(key)[1:]]
        holder[draw.choice(names)] = holder.pop(key)
    elif way == 4:
        other, name = draw.choice(where)
        holder[key] = copy.deepcopy(other[name])
    elif isinstance(holder[key], dict):
        holder[key][draw.choice([*TEXTS, 1, None, Raw(draw.choice(RAW[:60]))])] = _awkward(draw)


def _scribbled(draw: random.Random, text: str) -> str:
    """The text with a line twice, a character too many, an end too early."""
    lines, at = text.splitlines(keepends=True), draw.randrange(max(1, len(text)))
    way = draw.randrange(7)
    if way == 0 and lines:
        line = draw.randrange(len(lines))
        return "".join([*lines[: line + 1], *lines[line:]])
    if way == 1:
        return text[:at]
    if way == 2:
        return text[:at] + text[at + 1 :]
    if way == 3:
        heads = ["%YAML 1.1\n---\n", "%YAML 9.9\n---\n", "%TAG ! x\n---\n", "\ufeff", "---\n---\n", "...\n"]
        return draw.choice(heads) + text
    if way == 4:
        tails = ["---", "--- x", "...", "x", "- a", "? ", ": ", "&a", "<<: {seed: 1}", "<<: *x"]
        return f"{text}{draw.choice(tails)}\n"
    if way == 5:
        return text.replace(": ", f": {draw.choice(['!!str ', '!!map ', '!x ', '&a ', '* '])}", draw.randint(1, 3))
    return text[:at] + draw.choice(CHARACTERS) + text[at:]


def _override(draw: random.Random, document: dict) -> dict[str, str]:
    """One override: of a key that is there or not, by a value of any type."""
    names, value = [], document
    while isinstance(value, dict) and value and (not names or draw.random() < 0.7):
        names.append(str(draw.choice(list(value))))
        value = next(inner for name, inner in value.items() if str(name) == names[-1])
    if draw.random() < 0.3:
        names.append(draw.choice(TEXTS))
    if draw.random() < 0.1:
        names.insert(draw.randint(0, len(names)), draw.choice(["", "kind", "x"]))
    value = _awkward(draw)
    text = value if isinstance(value, str) else written(value)
    return {".".join(names)[:6000]: text}
