"""Load models by name; a PEFT adapter is merged into its base model.

So the folder of an adapter is a model name like any other, for teachers and pretrained students.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from students.weights import SPARSITY_THRESHOLD, model_sparsity

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from students.loading.auto_class import AutoClass

ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
NO_REMOTE_CODE = {"trust_remote_code": False}
"""For everything that is loaded by name: code in a model's repository is not run, and the user is not prompted."""
_PREFIX = "base_model.model."


def set_padding(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a tokenizer with a padding token; GPT-2's has none, and its end token pads."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def explain_remote_code(source: str) -> Iterator[None]:
    """Shorten the error of transformers about a model that needs code from its repository to one line."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        reason = "needs code that lies beside it, which is never run here; take a model of a stock architecture"
        raise ValueError(f"model: {source!r} {reason}") from error


def base_model_name(source: str) -> str | None:
    """Return the base model of the adapter in a folder; None if there is no adapter, or for a hub name.

    Raises:
        ValueError: if the adapter's file does not name it.
    """
    file = Path(source) / ADAPTER_CONFIG
    if not file.is_file():
        return None
    settings = json.loads(file.read_text())
    if not isinstance(settings, dict) or not isinstance(base := settings.get("base_model_name_or_path"), str):
        raise ValueError(f"model: {file} does not name the model that the adapter belongs to (base_model_name_or_path)")
    return os.path.expanduser(base)


def _transformers() -> ModuleType:
    """Return transformers with our models registered; not imported above: a config is read without it."""
    import transformers

    import_module("students.loading.own_models")
    return transformers


def load_config(source: str) -> PretrainedConfig:
    """Return the config of a model, or of an adapter's base with as many labels as the head saved with the adapter."""
    base = base_model_name(source)
    with explain_remote_code(base or source):
        config = _transformers().AutoConfig.from_pretrained(base or source, **NO_REMOTE_CODE)
    if base is None:
        return config
    heads = _saved_weights(source).values()
    kind = json.loads((Path(source) / ADAPTER_CONFIG).read_text()).get("task_type")
    count = min((len(weight) for weight in heads), default=config.num_labels)
    if kind in ("SEQ_CLS", "TOKEN_CLS") and count != config.num_labels:
        config.num_labels = count  # the last layer of a head has the fewest outputs
    return config


def tokenizer_source(name: str) -> str:
    """Return the name to load a tokenizer from: ``student/`` in a run folder, else the folder or hub name itself.

    Raises:
        ValueError: if it is a folder without a tokenizer.
    """
    path = Path(name).expanduser()
    for folder in (path / "student", path):
        if any((folder / file).is_file() for file in (*TOKENIZER_FILES, ADAPTER_CONFIG)):
            return str(folder)
    if path.exists():
        raise ValueError(f"{name!r} holds no tokenizer: it has no {' and no '.join(TOKENIZER_FILES)}")
    return name


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model; for an adapter without one, that of its base."""
    base = base_model_name(source)
    has_tokenizer = any((Path(source) / name).is_file() for name in TOKENIZER_FILES)
    with explain_remote_code(source):
        return _transformers().AutoTokenizer.from_pretrained(
            source if base is None or has_tokenizer else base, **NO_REMOTE_CODE
        )


def load_model(
    head: AutoClass | None,
    source: str,
    config: PretrainedConfig,
    resize: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, list[str]]:
    """Load a model; an adapter is merged into its base.

    Args:
        head: the Auto class of transformers; by default for sequence classification.
        source: a folder or a hub name.
        config: of the model to return.
        resize: whether weights may differ in size from those in the file; they are newly initialized then.
        dtype: of its weights.

    Returns:
        The model, and the names of the weights that were in no file.
    """
    base = base_model_name(source)
    head = head or _transformers().AutoModelForSequenceClassification
    model, loading = head.from_pretrained(
        base or source,
        config=config,
        dtype=dtype,
        output_loading_info=True,
        **NO_REMOTE_CODE,
        ignore_mismatched_sizes=resize or base is not None,
    )
    missing = [*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])]
    if base is None:
        return model, missing
    from peft import PeftModel  # not above: it takes half a second

    saved, base_sparsity = _saved_weights(source), model_sparsity(model)
    merged = PeftModel.from_pretrained(model, source).merge_and_unload()
    if base_sparsity >= SPARSITY_THRESHOLD and base_sparsity - model_sparsity(merged) >= SPARSITY_THRESHOLD / 2:
        warnings.warn(
            f"{base_sparsity:.1%} of the weights of {base} are zero, and {model_sparsity(merged):.1%} once the adapter "
            f"in {source} is merged: adapters fill zeros",
            stacklevel=2,
        )
    # PEFT freezes the base, but all of a student is trained.
    return merged.requires_grad_(True), [name for name in missing if name not in saved]


def _saved_weights(source: str) -> dict[str, torch.Tensor]:
    """Return the weights of the base, usually of its head, that were saved in full with the adapter."""
    from peft.utils import load_peft_weights

    weights = load_peft_weights(source, device="cpu")
    return {name.removeprefix(_PREFIX): weight for name, weight in weights.items() if "lora_" not in name}
