"""The reference of the documentation: public names and the classes that a config can name, read from the code.

mkdocs calls ``on_page_markdown`` (``hooks`` in mkdocs.yml); mkdocstrings then puts each docstring in its place.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parents[2]))

PAGE = "reference.md"
MARK = "<!-- classes -->"
"""What the page has in the place of its list."""


def sections() -> dict[str, list[type]]:
    """Return the classes by the key of a config that names them, and what else is public, each in alphabetic order."""
    import distill
    from distill.config.schema import descendants
    from distill.experiment.experiment import Experiment  # imports all that a config can name
    from distill.tasks.augment.augmentation import Augmentation
    from distill.tasks.task import Task
    from losses.loss import Loss
    from prune_schedules.schedule import Schedule
    from prune_schedules.scores.pruner import Pruner
    from quant_aware.quantizers.quantizer import Quantizer
    from students.forms.form import Form
    from students.kinds.student import Student

    bases = {
        "task": Task,
        "task.augment": Augmentation,
        "student": Student,
        "student: forms": Form,
        "losses": Loss,
        "prune": Pruner,
        "quantize.weights": Quantizer,
        "schedules": Schedule,
    }
    own = Experiment.__module__.partition(".")[0], "losses", "prune_schedules", "quant_aware", "students"
    found = {
        key: sorted(
            (cls for cls in {base, *descendants(base)} if cls.__module__.partition(".")[0] in own and is_public(cls)),
            key=lambda cls: (cls is not base, cls.__name__),
        )
        for key, base in bases.items()
    }
    listed = {cls for classes in found.values() for cls in classes}
    public = [getattr(distill, name) for name in distill.__all__]
    return {"from distill import": [thing for thing in public if thing not in listed], **found}


def is_public(cls: type) -> bool:
    """Return whether a class has a name for users and a docstring of its own."""
    return not cls.__name__.startswith("_") and bool(inspect.getdoc(cls))


def reference() -> str:
    """Return the list as Markdown, an entry of mkdocstrings for each class."""
    parts = []
    for key, things in sections().items():
        parts.append(f"## `{key}`\n")
        parts += [f"::: {thing.__module__}.{thing.__qualname__}\n" for thing in things]
    return "\n".join(parts)


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the list into its page; mkdocs calls this for every page."""
    return markdown.replace(MARK, reference()) if page.file.src_uri == PAGE else markdown
