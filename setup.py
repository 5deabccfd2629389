"""The packages of the wheel; all else stands in pyproject.toml, which cannot give one folder another name."""

from setuptools import find_packages, setup

OURS = ["distill", "losses", "prune_schedules", "quant_aware", "students"]

setup(
    packages=[*find_packages(include=[*OURS, *(f"{name}.*" for name in OURS)]), "distill.configs"],
    # At the top of the repository, where a person looks; not at the top of somebody's site-packages.
    package_dir={"distill.configs": "configs"},
)
