"""The picture in docs/architecture.md is that of the code, and the files that it names exist."""

import re
from pathlib import Path

from benchmarks.architecture import graph

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "architecture.md").read_text()


def test_the_picture_is_drawn_from_the_code():
    assert re.search(r"```mermaid\n(.*?)\n```", TEXT, re.S)[1] == graph()


def test_what_it_names_exists():
    paths = re.findall(r"`((?:distill|losses|students|prune_schedules|quant_aware|docs)/[\w/.]*)`", TEXT)
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []
