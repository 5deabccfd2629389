"""Copy licence files and the model card's licence from the source model into ``student/``.

Class names, generation settings and the tokenizer's files are saved with the student itself.
"""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

import yaml
from huggingface_hub import metadata_load
from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from distill.experiment.experiment import Experiment
from students.kinds.student import resolve
from students.loading.adapters import base_model_name, load_tokenizer, tokenizer_source

CARD = "README.md"
LICENSE_FILES = ("LICEN[CS]E*", "NOTICE*", "USE_POLICY*")
REGENERATED_FILES = (
    *("*.safetensors", "*.bin", "*.index.json", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.gguf", ".*"),
    *("config.json", "adapter_config.json", CARD),
    # tokenizer.json holds them
    *("vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "*.bpe.model"),
    *("tokenizer.model", "tokenizer.json", "tokenizer_config.json"),
)
"""Files that are written with the student, or that it does not need."""


def source_model(experiment: Experiment) -> str:
    """Return the model that the student is, or is built from."""
    return getattr(experiment.student, "model", None) or next(iter(experiment.teachers().values())).model


def reset_tokenizer(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Restore the padding and truncation that a tokenizer has in its files, and that using it has changed."""
    if not tokenizer.is_fast:
        return
    try:
        original, backend = load_tokenizer(tokenizer_source(source)).backend_tokenizer, tokenizer.backend_tokenizer
    except (OSError, ValueError):  # the folder was there when the run began
        return
    backend.no_padding()
    backend.no_truncation()
    if original.padding:
        backend.enable_padding(**original.padding | {"pad_id": tokenizer.pad_token_id})
    if original.truncation:
        backend.enable_truncation(**original.truncation)


def copy_model_card(source: str, folder: Path) -> list[str]:
    """Copy licence files and the licence of the model card into a saved student's folder.

    For an adapter, those of its base model too.

    Returns:
        Notes for the report: differing licences, and files that were not copied.
    """
    source = resolve(source)
    sources = [source, *([base] if (base := base_model_name(source)) else [])]
    for path in (Path(name) for name in sources if Path(name).is_dir()):
        for file in sorted(path.iterdir()):
            if file.is_file() and any(fnmatch(file.name.upper(), kind) for kind in LICENSE_FILES):
                to = folder / file.name
                shutil.copyfile(file, to if not to.exists() else folder / f"{file.name}-{path.name}")
    cards = {name: card for name in sources if (card := _card(name))}
    metadata = {key: card[key] for card in reversed(cards.values()) for key in _LICENSE_KEYS if card.get(key)}
    if metadata:
        names = [name for name in sources if not Path(name).is_dir()]
        metadata |= {"base_model": names} if names and "base_model" not in metadata else {}
        text = "A student made by distill-compress; its licence is that of the model it was made from."
        (folder / CARD).write_text(f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n{text}\n", encoding="utf-8")
    licences = {name: card["license"] for name, card in cards.items() if card.get("license")}
    notes = []
    if len(set(map(str, licences.values()))) > 1:
        notes.append("licences: " + ", ".join(f"{licence} of {name}" for name, licence in licences.items()))
    if Path(source).is_dir():
        written = {file.name for file in folder.iterdir()}
        left_out = [file.name for file in sorted(Path(source).iterdir()) if not _is_expected(file.name, written)]
        notes += [f"not copied from {source}: {', '.join(left_out)}"] * bool(left_out)
    return notes


_LICENSE_KEYS = ("license", "license_name", "license_link", "base_model")


def _card(source: str) -> dict | None:
    """Return the metadata of the model card in a folder or on the hub; None if it is missing or unreadable."""
    try:
        file = Path(source) / CARD if Path(source).is_dir() else cached_file(source, CARD)
        return metadata_load(file) if file and Path(file).is_file() else None
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _is_expected(name: str, written: set[str]) -> bool:
    return name in written or any(fnmatch(name, kind) for kind in REGENERATED_FILES)
