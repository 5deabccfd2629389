"""The packages beside ``distill``, whose short names a user's own file can hide.

Nothing is imported from them here, and nothing heavy at all: ``import distill`` and the command check this first.
"""

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

OWN_PACKAGES = ("losses", "prune_schedules", "quant_aware", "students")


def check_own_packages() -> None:
    """Check that Python finds our packages, and not something of the user's with the same name.

    Raises:
        ImportError: if another file or folder comes first on Python's path, or the package is missing.
    """
    for name in OWN_PACKAGES:
        location = _location(find_spec(name))
        if location is None:
            raise ImportError(f"the package '{name}' of distill is missing; install distill again")
        if not _is_beside_distill(location):
            raise ImportError(
                f"{location} hides the package '{name}' of distill; rename it, or start from another folder"
            )


def _location(spec: ModuleSpec | None) -> Path | None:
    """Return the file of a module, or the folder of a package."""
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])
    return Path(folders[0] if folders else str(spec.origin))


def _is_beside_distill(location: Path) -> bool:
    ours = Path(__file__).parents[2]
    return location.is_dir() and (location.parent == ours or location.parent.samefile(ours))
