"""Draws which package imports which, as the mermaid graph that stands in docs/architecture.md.

python -m benchmarks.architecture
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("distill", "losses", "prune_schedules", "quant_aware", "students")
GROUND = {"distill.config", "distill.run_dir"}
"""Packages that nearly all of ``distill`` uses: their arrows would hide the others."""


def package(parts: tuple[str, ...]) -> str:
    """Return the box in which a module stands: of ``distill`` the second level, elsewhere the room."""
    return ".".join(parts[:2]) if parts[0] == "distill" and len(parts) > 1 else parts[0]


def arrows() -> set[tuple[str, str]]:
    """Return the pairs (package, package that it imports), without the ground floor and facades."""
    pairs = set()
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if parts[-1] == "__init__":
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ROOMS:
                    target = (*node.module.split("."), node.names[0].name)
                    pairs.add((package(parts), package(target)))
    return {(upper, lower) for upper, lower in pairs if upper != lower and not {upper, lower} & GROUND}


def without_shortcuts(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the arrows that no longer way replaces (the transitive reduction of a graph without circles)."""
    below: dict[str, set[str]] = {}

    def reach(name: str) -> set[str]:
        if name not in below:
            below[name] = set()
            for upper, lower in pairs:
                if upper == name:
                    below[name] |= {lower} | reach(lower)
        return below[name]

    return {
        (upper, lower)
        for upper, lower in pairs
        if not any(lower in reach(middle) for top, middle in pairs if top == upper and middle != lower)
    }


def graph() -> str:
    """Return the mermaid graph."""
    lines = [f"    {upper} --> {lower}" for upper, lower in sorted(without_shortcuts(arrows()))]
    return "\n".join(["graph TD", *lines])


if __name__ == "__main__":
    print(graph())
