"""What ``--help`` prints: every key with its type, its default and the sentence from the docstring of its class."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_origin

from docstring_parser import parse, parse_from_object
from lightning import Trainer

from distill.config.schema import describe, members_of, reachable, schema_of, selector, subclasses
from distill.config.writer import dump
from distill.experiment.experiment import Experiment

_HEAD = """python train.py --config NAME.yaml [--dotted.key=value ...] [--check] [--resume[=auto]] [--print_config]

NAME is looked up as given, then in configs/. --check reads data and models whole, prints what was read and how it
fits, and trains nothing. --resume continues the run in its folder; --resume=auto begins or continues it, or tells that
it is done, and is what a SLURM job does unasked. --print_config prints the complete config and runs nothing. Below are
the keys of the file; each is also an option, as in --losses.logits.weight=0.5. Documents separated by --- are several
runs, done in order; an option holds for all.
"""


def help_text() -> str:
    """The keys of the file, then each class that they hold, once, in the order in which they come up."""
    lines = [_HEAD]
    for cls in reachable(Experiment):
        lines += _section(cls)
    return "\n".join([*lines, "trainer", *_trainer_arguments()])


def told(cls: type) -> dict[str, str]:
    """The sentences of a dataclass, and of those it is made from, on their fields: {name: text}."""
    found = {}
    for base in reversed([base for base in cls.__mro__ if is_dataclass(base)]):
        found |= {p.arg_name: " ".join(p.description.split()) for p in parse_from_object(base).params if p.description}
    return found


def _section(cls: type) -> list[str]:
    known = {name: found for name, found in subclasses(cls).items() if found is not cls}
    choice = f", chosen by `{selector(cls)}`" if known else ""
    lines = ["the file" if cls is Experiment else f"{cls.__name__}{choice}: {_sentence(cls)}", *_keys(cls, "  ", set())]
    for name, found in known.items():
        lines += _wrapped(f"{selector(cls)}: {name}", _sentence(found), "  ")
        lines += _keys(found, "    ", set(schema_of(cls)))
    return [*lines, ""]


def _keys(cls: type, indent: str, without: set[str]) -> list[str]:
    sentences, hints, lines = told(cls), schema_of(cls), []
    for f in (f for f in fields(cls) if f.name in hints and f.name not in without):
        kinds = " or ".join(dict.fromkeys(describe(m) for m in members_of(hints[f.name]) if m is not type(None)))
        lines += _wrapped(f.name, f"{kinds}{_default(f)}. {sentences.get(f.name, '')}", indent)
    return lines


def _default(f: Field) -> str:
    if f.default is MISSING and f.default_factory is MISSING:
        return ", needed"
    value: Any = dump(f.default if f.default is not MISSING else f.default_factory())
    return (
        ""
        if value is None or isinstance(value, dict)
        else f" [{str(value).lower() if isinstance(value, bool) else value}]"
    )


def _sentence(cls: type) -> str:
    return inspect.getdoc(cls).partition("\n\n")[0].replace("\n", " ")


def _trainer_arguments() -> list[str]:
    hint = schema_of(Experiment)["trainer"]
    assert get_origin(hint) is Annotated
    params = parse(Trainer.__init__.__doc__).params
    sentences = {p.arg_name: " ".join((p.description or "").split()).partition(". ")[0] for p in params}
    return [line for name in hint.__metadata__[0] for line in _wrapped(name, sentences.get(name, ""), "  ")]


def _wrapped(name: str, text: str, indent: str) -> list[str]:
    plain = text.replace("``", "").strip()
    return textwrap.wrap(f"{name}: {plain}", 110, initial_indent=indent, subsequent_indent=f"{indent}    ")
