"""How a text encoder makes one vector of a text, as a sentence-transformers folder states it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PoolingMode = Literal["mean", "cls", "last"]
"""The mean of the tokens of a text, its first token, or its last one."""

_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last"}
"""By the key that is true in ``1_Pooling/config.json``, as servers and all versions of the library read it."""


@dataclass(frozen=True)
class Pooling:
    """How the states of tokens become one vector.

    Args:
        mode: the mean of the tokens, the first token, or the last one.
        normalize: whether the vector has length 1.
    """

    mode: PoolingMode = "mean"
    normalize: bool = False


def read_pooling(source: str) -> Pooling | None:
    """Return the pooling of a sentence-transformers folder or hub name; None without a name, or a ``modules.json``.

    Raises:
        ValueError: if its vectors need more than a mean, a first or a last token and a length of 1.
    """
    modules = _read(source, "modules.json") if source else None
    if modules is None:
        return None
    mode: PoolingMode | None = None
    normalize = False
    for module in modules[1:]:
        kind = module["type"].rpartition(".")[2]
        if kind == "Pooling" and mode is None:
            mode = _mode(_read(source, f"{module['path']}/config.json") or {})
        elif kind == "Normalize":
            normalize = True
        else:
            raise ValueError(f"model: its vectors also need a {kind} module (modules.json), which is not supported")
    if prompt := (_read(source, "config_sentence_transformers.json") or {}).get("default_prompt_name"):
        raise ValueError(
            f"model: its texts begin with the prompt {prompt!r} (default_prompt_name in "
            "config_sentence_transformers.json), which is not added here; set it to null, and write it in the data"
        )
    return Pooling(mode or "mean", normalize)


def _mode(settings: dict[str, Any]) -> PoolingMode:
    """Return the mode that the settings of a Pooling module name, in their old form or the new one."""
    modes = [name for key, name in _MODES.items() if settings.get(key)]
    others = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value and key not in _MODES]
    if isinstance(name := settings.get("pooling_mode"), str):
        name = {"lasttoken": "last"}.get(name, name)
        modes, others = ([name], []) if name in _MODES.values() else ([], [name])
    if len(modes) != 1 or others:
        named = ", ".join([*modes, *others]) or "nothing"
        raise ValueError(f"model: its pooling is {named} (1_Pooling/config.json), not one of mean, cls and last")
    mode: PoolingMode = modes[0]  # type: ignore[assignment]  # one of the three
    return mode


def write_pooling(folder: Path, pooling: Pooling, width: int) -> None:
    """Make a model's folder one of sentence-transformers, which loads in all its versions and in servers of its form.

    Args:
        folder: of the model and its tokenizer.
        pooling: of the model.
        width: of its vectors.
    """
    types = {"": "Transformer", "1_Pooling": "Pooling"} | ({"2_Normalize": "Normalize"} if pooling.normalize else {})
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(types.items())
    ]
    modes = {key: mode == pooling.mode for key, mode in _MODES.items()}
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": width, **modes},
        "config_sentence_transformers.json": {"similarity_fn_name": "cosine"},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def write_max_length(folder: Path, max_length: int) -> None:
    """Write how many tokens of a text sentence-transformers reads."""
    settings = {"max_seq_length": max_length, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _read(source: str, name: str) -> Any:
    """Return the JSON of a file beside a model; None if there is none."""
    from transformers.utils import cached_file  # not above: a config is read without transformers

    path = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else json.loads(Path(path).read_text())
