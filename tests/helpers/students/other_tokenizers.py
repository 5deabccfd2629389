"""A teacher whose tokenizer is not the student's: a GPT-2 with byte-level tokens, and a BERT with WordPiece."""

from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GPT2Config, PreTrainedTokenizerFast

from tests.helpers.repositories import BAD, GOOD, NOUNS, OTHER, save_model, save_tiny_bert, sentences

CONFIG = """\
task: {{name: classification, data: {data}, max_length: 24, batch_size: 8}}
teacher: {{model: {folder}/gpt2, check: false, max_length: 30}}
student: {folder}/bert
losses:
  labels: {{kind: Labels}}
  logits: {{kind: Logits, temperature: 2.0}}
optimizer: {{lr: 1e-3}}
trainer: {{max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}}
output: {folder}/runs
"""


def save_byte_level(folder: Path, vocab_size: int = 300) -> int:
    """Save a byte-level BPE tokenizer with no padding token, as GPT-2's, and return its size.

    Words of the made-up reviews have two tokens or more, so that a text has more of them than in WordPiece.
    """
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    made.train_from_iterator([row["sentence"] for row in sentences(64, 0)], trainer)
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=end, eos_token=end, unk_token=end, model_max_length=64
    )
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def save_byte_level_teacher(folder: Path, labels: list[str]) -> None:
    """Save a random GPT-2 that classifies texts, and its tokenizer."""
    size = save_byte_level(folder)
    save_model(folder, GPT2Config(vocab_size=size, n_positions=64, n_embd=32, n_layer=3, n_head=4), labels)


def save_pair(folder: Path) -> None:
    """Save the teacher ``gpt2`` and the student ``bert``."""
    save_byte_level_teacher(folder / "gpt2", ["negative", "positive"])
    save_tiny_bert(folder / "bert", layers=2, hidden=32, heads=4, labels=["negative", "positive"])


TEXTS = [" ".join(words) for words in zip(GOOD, BAD, NOUNS, [f"{noun}s" for noun in NOUNS], GOOD[::-1], strict=True)]
TEXTS += [" ".join(OTHER), "unwarm, warmly. a scripted film; the café's ending!"] * 4
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]


def _wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=220, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    made.decoder = decoders.WordPiece()
    return made


def _byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["</s>", "<s>", "<pad>"]
    made.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=380, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    return made


def _unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<unk>", "<pad>", "</s>"]
    made.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(vocab_size=160, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    return made


ROLES = {
    "WordPiece": {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "pad", "cls", "sep", "mask")},
    "BPE": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
    "Unigram": {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"},
}
MADE = {"WordPiece": _wordpiece, "BPE": _byte_level, "Unigram": _unigram}


@cache
def made(name: str) -> PreTrainedTokenizerFast:
    """Return a small tokenizer of a type, trained on words of the made-up reviews; it is not to be changed."""
    return PreTrainedTokenizerFast(tokenizer_object=MADE[name](), **ROLES[name])
