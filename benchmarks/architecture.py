"""Draw which package imports which, as the mermaid graph of docs/architecture.md.

python -m benchmarks.architecture
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("distill", "losses", "prune_schedules", "quant_aware", "students")
GROUND = {"distill.config", "distill.run_dir"}
"""Packages that nearly all of ``distill`` imports; their arrows would hide the others."""


def package(parts: tuple[str, ...]) -> str:
    """Return the package of a module: within ``distill`` of the second level, elsewhere of the first."""
    return ".".join(parts[:2]) if parts[0] == "distill" and len(parts) > 1 else parts[0]


def import_pairs() -> set[tuple[str, str]]:
    """Return the pairs (package, imported package), without the ground floor, ``__init__.py`` and ``__main__.py``."""
    pairs = set()
    for root in PACKAGES:
        for file in sorted((ROOT / root).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if parts[-1] in ("__init__", "__main__"):
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                    target = (*node.module.split("."), node.names[0].name)
                    pairs.add((package(parts), package(target)))
    return {(upper, lower) for upper, lower in pairs if upper != lower and not {upper, lower} & GROUND}


def transitive_reduction(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the transitive reduction of an acyclic graph: the arrows that no longer path replaces."""
    below: dict[str, set[str]] = {}

    def reach(name: str) -> set[str]:
        """Return all packages below one."""
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
    """Return the graph in mermaid syntax."""
    lines = [f"    {upper} --> {lower}" for upper, lower in sorted(transitive_reduction(import_pairs()))]
    return "\n".join(["graph TD", *lines])


if __name__ == "__main__":
    print(graph())
