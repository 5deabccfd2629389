"""Reduce a fast tokenizer: find the tokens that are required to encode any text, and build the tokenizer of those.

Text whose tokens all stay is encoded to the same tokens: WordPiece takes the longest piece, and no longer one is added;
BPE takes the first merge, and all merges that lead to a token stay with it; Unigram takes the best path, which is still
there. Only a word that was unknown to WordPiece may become known.
"""

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

TokenizerJSON = dict[str, Any]
"""The JSON of a fast tokenizer, or a part of it."""
_BYTE = re.compile("<0x[0-9A-F]{2}>")


def required_ids(tokenizer: PreTrainedTokenizerBase, wanted: Iterable[int]) -> list[int]:
    """Return the ids that stay, in order: those wanted, special and added tokens, and those that encode any text.

    The last are the single characters and single bytes, and for BPE all that merge into the wanted tokens.

    Raises:
        ValueError: if the type of the tokenizer is not supported.
    """
    if not tokenizer.is_fast:
        raise ValueError("the tokenizer is not of the `tokenizers` library; only a fast tokenizer can be reduced")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model, required = state["model"], {token["id"] for token in state["added_tokens"]} | set(wanted)
    if model["type"] == "Unigram":
        base = _base_of_unigram(model)
    elif model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        base = {i for piece, i in model["vocab"].items() if len(piece.removeprefix(prefix)) == 1}
    elif model["type"] == "BPE":
        base = _base_of_bpe(model, required)
    else:
        raise ValueError(f"a {model['type']} tokenizer has no smaller pieces that could encode the removed words")
    if model.get("unk_token") is not None:
        required.add(tokenizer.convert_tokens_to_ids(model["unk_token"]))
    return sorted(required | base)


def _base_of_unigram(model: TokenizerJSON) -> set[int]:
    """Return characters and bytes; and the unlikeliest piece, from whose score that of an unknown character follows."""
    pieces = [piece for piece, _ in model["vocab"]]
    base = {i for i, piece in enumerate(pieces) if len(piece) == 1 or _BYTE.fullmatch(piece)}
    unknown = set() if model["unk_id"] is None else {model["unk_id"]}
    return base | unknown | {min(range(len(pieces)), key=lambda i: model["vocab"][i][1])}


def _base_of_bpe(model: TokenizerJSON, required: set[int]) -> set[int]:
    """Return characters and bytes, and the intermediate merges of each required token."""
    if model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        raise ValueError("a BPE tokenizer that marks the beginning or end of words in its pieces cannot be reduced")
    ids = model["vocab"]
    rank = {tuple(pair): i for i, pair in enumerate(model["merges"])}
    intermediate = {part for piece, i in ids.items() if i in required for part in _merges_of(piece, rank)}
    return {i for piece, i in ids.items() if len(piece) == 1 or _BYTE.fullmatch(piece) or piece in intermediate}


def _merges_of(piece: str, rank: dict[tuple[str, str], int]) -> list[str]:
    """Return the pieces that merging a text creates; the last is the text itself if the merges lead that far."""
    parts, merged = list(piece), []
    while pairs := [(rank[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in rank]:
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        merged.append(parts[i])
    return merged


def rebuild_tokenizer(tokenizer: PreTrainedTokenizerBase, keep: list[int]) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the tokens in ``keep`` (of ``required_ids``); their new ids are their indices in it.

    Raises:
        ValueError: if its files do not determine all of its ids.
    """
    new = {old: i for i, old in enumerate(keep)}
    # Through its files: they are what will be deployed.
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        file = Path(folder) / "tokenizer.json"
        state = json.loads(file.read_text(encoding="utf-8"))
        _renumber(state, new)
        file.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        reduced = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    wanted = {piece: new[i] for piece, i in tokenizer.get_vocab().items() if i in new}
    if reduced.get_vocab() != wanted:
        raise ValueError(f"the {type(tokenizer).__name__} adds tokens of its own when its files are read")
    return reduced


def _renumber(state: TokenizerJSON, new: dict[int, int]) -> None:
    """Remove the tokens without a new id, and replace the ids of the others everywhere in the JSON."""
    model = state["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new]
        model["unk_id"] = new.get(model["unk_id"])
    else:
        model["vocab"] = {piece: new[i] for piece, i in model["vocab"].items() if i in new}
    if model["type"] == "BPE":
        vocab = model["vocab"]
        model["merges"] = [(a, b) for a, b in model["merges"] if a in vocab and b in vocab and a + b in vocab]
    for token in state["added_tokens"]:
        token["id"] = new[token["id"]]
    if state["padding"]:
        state["padding"]["pad_id"] = new[state["padding"]["pad_id"]]
    if state["post_processor"]:
        _renumber_processor(state["post_processor"], new)


def _renumber_processor(processor: TokenizerJSON, new: dict[int, int]) -> None:
    for part in processor.get("processors", []):
        _renumber_processor(part, new)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new[i] for i in token["ids"]]
    for name in {"cls", "sep"} & processor.keys():
        token, i = processor[name]
        processor[name] = [token, new[i]]
