"""The text of ``--help TOPIC``: a section of the config, a class that can be chosen there, or a key of it."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin

from docstring_parser import parse, parse_from_object

from distill.config.errors import ConfigError, suggest
from distill.config.schema import describe_type, schema_of, selector, subclasses, union_members, yaml_name
from distill.config.writer import dump
from distill.experiment.experiment import Experiment

WIDTH = 110


def help_text(topic: str) -> str:
    """Return the help on a dotted topic: keys and names of classes in turn, as in ``prune.Magnitude.sparsity``.

    Raises:
        ConfigError: if there is no such key or class.
    """
    path, hint = "", Experiment
    for word in topic.split("."):
        known = _below(hint)
        if word not in known:
            message = f"{path or 'a config'} has no {word!r}{suggest(word, known)}" if known else f"{path} has no keys"
            raise ConfigError(f"--help {topic}: {message}")
        sentence = field_docs(hint).get(word, "") if is_dataclass(hint) else ""
        path, hint = f"{path}.{word}".strip("."), known[word]
    return "\n".join(_page(path, hint, sentence))


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring of each field of a dataclass and its bases: {name: text}."""
    sentences = {}
    for base in reversed([base for base in cls.__mro__ if is_dataclass(base)]):
        params = parse_from_object(base).params
        sentences |= {param.arg_name: " ".join(param.description.split()) for param in params if param.description}
    return sentences


def _classes(hint: Any) -> list[type]:
    """Return the dataclasses in a type hint, also those in a mapping or list."""
    members = union_members(hint)
    for container in [member for member in members if get_origin(member) in (dict, list)]:
        members += [member for argument in get_args(container) for member in union_members(argument)]
    return list(dict.fromkeys(member for member in members if is_dataclass(member)))


def _choices(hint: Any) -> dict[str, type]:
    """Return by name the classes that can be chosen for a type hint."""
    return {name: cls for base in _classes(hint) for name, cls in subclasses(base).items()}


def _below(hint: Any) -> dict[str, Any]:
    """Return the topics below a type hint: the keys of a class, or the classes of a key and their common keys."""
    if is_dataclass(hint) and not inspect.isabstract(hint):
        return schema_of(hint)
    choices = _choices(hint)
    keys = schema_of(next(iter(choices.values()))) if len(choices) == 1 else {}
    return keys | choices


def _page(path: str, hint: Any, sentence: str) -> list[str]:
    if get_origin(hint) is Annotated:
        return [*_wrapped(path, sentence, ""), "", *_arguments(hint)]
    if is_dataclass(hint) and not inspect.isabstract(hint) and path.rpartition(".")[2] == yaml_name(hint):
        return _class_page(path, hint)
    lines, choices = _wrapped(path, f"{sentence} ({_kinds(hint)})" if sentence else _kinds(hint), ""), _choices(hint)
    if len(choices) == 1:
        return [*lines, "", *_class_page(path, next(iter(choices.values())))]
    for base in _classes(hint):
        if known := {name: cls for name, cls in subclasses(base).items() if cls is not base}:
            lines += ["", *_wrapped("", f"{_sentence(base)} Chosen by `{selector(base)}`:", "")]
            lines += [_listed(name, cls) for name, cls in known.items()]
            lines += ["", "Keys of all of them:", *_keys(base)] if schema_of(base) else []
        else:
            lines += ["", *_wrapped(base.__name__, _sentence(base), ""), *_keys(base)]
    return lines if not choices else [*lines, "", f"One of them with its keys: --help {path}.{next(iter(choices))}"]


def _class_page(path: str, cls: type) -> list[str]:
    doc = inspect.getdoc(cls).partition("\n\nArgs:")[0].partition("\n\nRaises:")[0].replace("``", "")
    return [cls.__name__, "", *(f"  {line}".rstrip() for line in doc.splitlines()), "", *_keys(cls)]


def _listed(name: str, cls: type) -> str:
    sentence = _sentence(cls).replace("``", "")
    return f"  {name:<20}  {textwrap.shorten(sentence, WIDTH - 24, placeholder=' ...')}"


def _keys(cls: type) -> list[str]:
    sentences, hints, lines = field_docs(cls), schema_of(cls), []
    for field in (field for field in fields(cls) if field.name in hints):
        text = f"{_kinds(hints[field.name])}{_default(field)}. {sentences.get(field.name, '')}"
        lines += _wrapped(field.name, text, "  ")
    return lines


def _kinds(hint: Any) -> str:
    return " or ".join(
        dict.fromkeys(describe_type(member) for member in union_members(hint) if member is not type(None))
    )


def _default(field: Field) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return ", needed"
    value: Any = dump(field.default if field.default is not MISSING else field.default_factory())
    if value is None or isinstance(value, dict):
        return ""
    return f" [{str(value).lower() if isinstance(value, bool) else value}]"


def _sentence(cls: type) -> str:
    return inspect.getdoc(cls).partition("\n\n")[0].replace("\n", " ")


def _arguments(hint: Any) -> list[str]:
    from lightning import Trainer  # not at the top: it takes seconds, and no other topic needs it

    params = parse(Trainer.__init__.__doc__).params
    sentences = {param.arg_name: " ".join((param.description or "").split()).partition(". ")[0] for param in params}
    return [line for name in hint.__metadata__[0]() for line in _wrapped(name, sentences.get(name, ""), "  ")]


def _wrapped(name: str, text: str, indent: str) -> list[str]:
    plain = f"{name}: {text}".removeprefix(": ").replace("``", "").strip()
    return textwrap.wrap(plain, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ")
