"""The sections of a config, as ``--help`` without a topic shows them: without slow imports."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

from docstring_parser import parse

_HEAD = """\
The sections of the file; each key in them is also an option, as in --losses.logits.weight=0.5, which holds for all runs
of the file:
"""


def sections() -> dict[str, str]:
    """Return {key: docstring} of a config, parsed from the source of ``Experiment``: importing it takes seconds."""
    module = ast.parse(Path(__file__).with_name("experiment.py").read_text("utf-8"))
    experiment = next(node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Experiment")
    params = parse(ast.get_docstring(experiment)).params
    return {param.arg_name: " ".join(param.description.split()) for param in params}


def sections_overview() -> str:
    """Return the sections of a config, a line each."""
    width = max(map(len, sections()))
    lines = [f"  {name:<{width}}  {_line(sentence, 116 - width)}" for name, sentence in sections().items()]
    return "\n".join([_HEAD, *lines])


def _line(sentence: str, width: int) -> str:
    """Return the first clause of a sentence."""
    clause = re.split(r"[:;] ", sentence.replace("``", "").rstrip("."))[0]
    return textwrap.shorten(clause, width, placeholder=" ...")
