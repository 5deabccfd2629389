"""A fast tokenizer made smaller: which tokens must stay so that any text can be spelled, and the tokenizer of those.

Text whose tokens all stay is encoded to the same pieces: WordPiece takes the longest piece, and no longer one has come;
BPE takes the first merge, and all merges that led to a token stay with it; Unigram takes the best path, and it is still
there. Only a word that WordPiece could not spell may become spelt.
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
    """The ids that stay, in their order: those wanted, special and added tokens, and what spells any text.

    Of WordPiece and Unigram these are the single characters, of BPE also what merges into the wanted tokens, and of
    all the single bytes.

    Raises:
        ValueError: if it is not known how the tokenizer spells.
    """
    if not tokenizer.is_fast:
        raise ValueError("the tokenizer is none of the `tokenizers` library, which alone can be made smaller")
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    model, kept = told["model"], {token["id"] for token in told["added_tokens"]} | set(wanted)
    if model["type"] == "Unigram":
        spelling = _of_unigram(model)
    elif model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        spelling = {i for piece, i in model["vocab"].items() if len(piece.removeprefix(prefix)) == 1}
    elif model["type"] == "BPE":
        spelling = _of_bpe(model, kept)
    else:
        raise ValueError(f"a {model['type']} tokenizer has no smaller pieces with which to spell the words left out")
    if model.get("unk_token") is not None:
        kept.add(tokenizer.convert_tokens_to_ids(model["unk_token"]))
    return sorted(kept | spelling)


def _of_unigram(model: TokenizerJSON) -> set[int]:
    """Characters and bytes; and the unlikeliest piece, from whose score that of an unknown character is reckoned."""
    pieces = [piece for piece, _ in model["vocab"]]
    found = {i for i, piece in enumerate(pieces) if len(piece) == 1 or _BYTE.fullmatch(piece)}
    unknown = set() if model["unk_id"] is None else {model["unk_id"]}
    return found | unknown | {min(range(len(pieces)), key=lambda i: model["vocab"][i][1])}


def _of_bpe(model: TokenizerJSON, kept: set[int]) -> set[int]:
    """Characters and bytes, and the tokens on the way from the characters of each kept token to it."""
    if model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        raise ValueError("of a BPE tokenizer that marks the beginning or end of a word in its pieces no part is taken")
    ids = model["vocab"]
    rank = {tuple(pair): place for place, pair in enumerate(model["merges"])}
    on_the_way = {part for piece, i in ids.items() if i in kept for part in _merged(piece, rank)}
    return {i for piece, i in ids.items() if len(piece) == 1 or _BYTE.fullmatch(piece) or piece in on_the_way}


def _merged(piece: str, rank: dict[tuple[str, str], int]) -> list[str]:
    """The pieces that merging makes of a text, the last one of them the text itself if it comes that far."""
    parts, made = list(piece), []
    while pairs := [(rank[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in rank]:
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        made.append(parts[i])
    return made


def rebuild_tokenizer(tokenizer: PreTrainedTokenizerBase, keep: list[int]) -> PreTrainedTokenizerBase:
    """The tokenizer of the tokens in ``keep`` (of ``required_ids``), whose ids are their places in it.

    Raises:
        ValueError: if its files do not say all that there is to say of its ids.
    """
    new = {old: i for i, old in enumerate(keep)}
    # By way of its files: what is read back is what will be deployed.
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        file = Path(folder) / "tokenizer.json"
        told = json.loads(file.read_text(encoding="utf-8"))
        _renumber(told, new)
        file.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
        found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    wanted = {piece: new[i] for piece, i in tokenizer.get_vocab().items() if i in new}
    if found.get_vocab() != wanted:
        raise ValueError(f"the {type(tokenizer).__name__} adds tokens of its own when its files are read")
    return found


def _renumber(told: TokenizerJSON, new: dict[int, int]) -> None:
    """Leaves out the tokens without a new id, and gives it to the others wherever the file names one."""
    model = told["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new]
        model["unk_id"] = new.get(model["unk_id"])
    else:
        model["vocab"] = {piece: new[i] for piece, i in model["vocab"].items() if i in new}
    if model["type"] == "BPE":
        there = model["vocab"]
        model["merges"] = [(a, b) for a, b in model["merges"] if a in there and b in there and a + b in there]
    for token in told["added_tokens"]:
        token["id"] = new[token["id"]]
    if told["padding"]:
        told["padding"]["pad_id"] = new[told["padding"]["pad_id"]]
    if told["post_processor"]:
        _renumber_processor(told["post_processor"], new)


def _renumber_processor(told: TokenizerJSON, new: dict[int, int]) -> None:
    for part in told.get("processors", []):
        _renumber_processor(part, new)
    for token in told.get("special_tokens", {}).values():
        token["ids"] = [new[i] for i in token["ids"]]
    for name in {"cls", "sep"} & told.keys():
        token, i = told[name]
        told[name] = [token, new[i]]
