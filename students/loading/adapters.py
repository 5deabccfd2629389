"""Adapters of PEFT: a few weights beside a base model, merged into it where they are loaded.

So an adapter's folder is a name of a model like any other, for teachers and for students that exist.
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

ADAPTER_CONFIG = "adapter_config.json"
NO_REMOTE_CODE = {"trust_remote_code": False}
"""Of everything that is loaded by name: code that lies beside a model is not run, nor is anybody asked about it."""
_PREFIX = "base_model.model."


@contextmanager
def explain_remote_code(source: str) -> Iterator[None]:
    """Says in a line that a model needs code of its own, which transformers says in many."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        why = "needs code that lies beside it, which is never run here; take a model of a stock architecture"
        raise ValueError(f"model: {source!r} {why}") from error


def base_model_name(source: str) -> str | None:
    """The model on which the adapter in a folder was trained; None if it holds none, or is a hub name.

    Raises:
        ValueError: if the adapter's file does not name it.
    """
    file = Path(source) / ADAPTER_CONFIG
    if not file.is_file():
        return None
    told = json.loads(file.read_text())
    if not isinstance(told, dict) or not isinstance(base := told.get("base_model_name_or_path"), str):
        raise ValueError(f"model: {file} does not name the model that the adapter belongs to (base_model_name_or_path)")
    return os.path.expanduser(base)


def _transformers() -> ModuleType:
    """Return transformers, once it knows our models; not above, for a config is read without it."""
    import transformers

    import_module("students.loading.own_models")
    return transformers


def load_config(source: str) -> PretrainedConfig:
    """The config of a model, or of an adapter's base with as many labels as the head that was saved with it."""
    base = base_model_name(source)
    with explain_remote_code(base or source):
        config = _transformers().AutoConfig.from_pretrained(base or source, **NO_REMOTE_CODE)
    if base is None:
        return config
    heads = _saved(source).values()
    kind = json.loads((Path(source) / ADAPTER_CONFIG).read_text()).get("task_type")
    count = min((len(weight) for weight in heads), default=config.num_labels)
    if kind in ("SEQ_CLS", "TOKEN_CLS") and count != config.num_labels:
        config.num_labels = count  # of a head the last layer has the fewest outputs
    return config


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; of an adapter that has none of its own that of its base."""
    base = base_model_name(source)
    own = any((Path(source) / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    with explain_remote_code(source):
        return _transformers().AutoTokenizer.from_pretrained(source if base is None or own else base, **NO_REMOTE_CODE)


def load_model(
    head: type | None,
    source: str,
    config: PretrainedConfig,
    resize: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, list[str]]:
    """A model, an adapter merged into its base, and the names of weights that no file had.

    Args:
        head: the Auto class of transformers; that of a classifier of texts if not given.
        source: a folder or a hub name.
        config: as it is to be.
        resize: whether weights may have other sizes than in the file, and start at random then.
        dtype: of its weights.
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
    from peft import PeftModel  # half a second, and few need it

    saved, begun = _saved(source), model_sparsity(model)
    merged = PeftModel.from_pretrained(model, source).merge_and_unload()
    if begun >= SPARSITY_THRESHOLD and begun - model_sparsity(merged) >= SPARSITY_THRESHOLD / 2:
        warnings.warn(
            f"{begun:.1%} of the weights of {base} are zero, and {model_sparsity(merged):.1%} once the adapter in "
            f"{source} is merged: adapters fill zeros",
            stacklevel=2,
        )
    # PEFT has frozen the base, and a student is trained whole.
    return merged.requires_grad_(True), [name for name in missing if name not in saved]


def _saved(source: str) -> dict[str, torch.Tensor]:
    """The weights of the base, heads as a rule, that were trained and saved whole."""
    from peft.utils import load_peft_weights

    found = load_peft_weights(source, device="cpu")
    return {name.removeprefix(_PREFIX): weight for name, weight in found.items() if "lora_" not in name}
