"""What a model's folder has beside its weights, taken over into ``student/``; and what is not, told.

Names of classes, settings of ``generate`` and the tokenizer's files are written with the student itself.
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
from students.loading.adapters import base_model_name, load_tokenizer

CARD = "README.md"
LICENCES = ("LICEN[CS]E*", "NOTICE*", "USE_POLICY*")
MADE_ANEW = (
    *("*.safetensors", "*.bin", "*.index.json", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.gguf", ".*"),
    *("config.json", "adapter_config.json", CARD),
    # tokenizer.json holds them
    *("vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "*.bpe.model"),
    *("tokenizer.model", "tokenizer.json", "tokenizer_config.json"),
)
"""Files that the student has of its own, or has no use for."""


def made_from(experiment: Experiment) -> str:
    """The model that the student is, or is built from."""
    return getattr(experiment.student, "model", None) or next(iter(experiment.teachers().values())).model


def settle_tokenizer(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Takes back what using a tokenizer has left in it: whether it pads and cuts off by itself is as in its files."""
    if not tokenizer.is_fast:
        return
    try:
        own, backend = load_tokenizer(resolve(source)).backend_tokenizer, tokenizer.backend_tokenizer
    except (OSError, ValueError):  # the folder was there when the run began
        return
    backend.no_padding()
    backend.no_truncation()
    if own.padding:
        backend.enable_padding(**own.padding | {"pad_id": tokenizer.pad_token_id})
    if own.truncation:
        backend.enable_truncation(**own.truncation)


def carry(source: str, folder: Path) -> list[str]:
    """Takes licence files and what a model card says of the licence over into a student's folder, which is written
    already; of an adapter also those of its base.

    Returns:
        What the report is to say.
    """
    source = resolve(source)
    sources = [source, *([base] if (base := base_model_name(source)) else [])]
    for path in (Path(name) for name in sources if Path(name).is_dir()):
        for file in sorted(path.iterdir()):
            if file.is_file() and any(fnmatch(file.name.upper(), kind) for kind in LICENCES):
                to = folder / file.name
                shutil.copyfile(file, to if not to.exists() else folder / f"{file.name}-{path.name}")
    cards = {name: card for name in sources if (card := _card(name))}
    kept = {key: card[key] for card in reversed(cards.values()) for key in _OF_LICENCE if key in card}
    if kept:
        names = [name for name in sources if not Path(name).is_dir()]
        kept |= {"base_model": names} if names and "base_model" not in kept else {}
        text = "A student made by distill-compress; its licence is that of the model it was made from."
        (folder / CARD).write_text(f"---\n{yaml.safe_dump(kept, sort_keys=False)}---\n{text}\n", encoding="utf-8")
    licences = {name: card["license"] for name, card in cards.items() if "license" in card}
    notes = []
    if len(set(map(str, licences.values()))) > 1:
        notes.append("licences: " + ", ".join(f"{licence} of {name}" for name, licence in licences.items()))
    if Path(source).is_dir():
        there = {file.name for file in folder.iterdir()}
        left = [file.name for file in sorted(Path(source).iterdir()) if not _known(file.name, there)]
        notes += [f"not taken over from {source}: {', '.join(left)}"] * bool(left)
    return notes


_OF_LICENCE = ("license", "license_name", "license_link", "base_model")


def _card(source: str) -> dict | None:
    """What the model card in a folder or on the hub says in its head; None if it cannot be had."""
    try:
        file = Path(source) / CARD if Path(source).is_dir() else cached_file(source, CARD)
        return metadata_load(file) if file and Path(file).is_file() else None
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _known(name: str, there: set[str]) -> bool:
    return name in there or any(fnmatch(name, kind) for kind in MADE_ANEW)
