"""Rows and tokenizers that a model cannot read are refused in one line before the first step."""

from pathlib import Path

from tokenizers import Tokenizer, normalizers, processors
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    T5Config,
)

from tests.helpers.fitted import NAMES, planned, refused, save_fitted
from tests.helpers.repositories import save_model, save_tokenizer
from tests.helpers.tables import write

# What a tokenizer gives, and what each model reads


def test_rows_longer_than_the_student_reads(folder):
    write(folder / "long.jsonl", [{"text": "film " * 90, "label": name} for name in NAMES] * 10)
    save_fitted(folder / "short", NAMES, [0, 1], max_position_embeddings=64)
    given = {"task.data": str(folder / "long.jsonl")}
    message = "has 92 tokens, and the student has 64 positions; write a smaller task.max_length"
    assert message in refused(folder, "named", student=str(folder / "short"), **given)
    assert f"teacher.model: row 1 of the training rows has 92 tokens, and '{folder}/short' has 64 positions" in refused(
        folder, "short", **given
    )


def test_a_model_whose_tokenizer_names_no_limit(folder):
    """The table of a RoBERTa has places that no text may take."""
    save_fitted(folder / "boundless", NAMES, [0, 1], max_position_embeddings=64)
    tokenizer = AutoTokenizer.from_pretrained(folder / "boundless")
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(folder / "boundless")
    given = {"task.data": str(folder / "long.jsonl")}
    assert "has 64 positions" in refused(folder, "boundless", **given)
    sizes = {"num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 24}
    size = save_tokenizer(folder / "roberta")
    config = RobertaConfig(vocab_size=size, max_position_embeddings=93, type_vocab_size=2, pad_token_id=0, **sizes)
    save_model(folder / "roberta", config, NAMES)
    assert planned(folder, "roberta", **given)
    config.pad_token_id = 1
    save_model(folder / "roberta", config, NAMES)
    assert "has 91 positions" in refused(folder, "roberta", **given)


def test_token_types_that_a_model_does_not_have(folder):
    pairs = [{"text": "a film", "other": "a plot", "label": name} for name in NAMES] * 10
    write(folder / "pairs.jsonl", pairs)
    save_fitted(folder / "typeless", NAMES, [0, 1], type_vocab_size=1)
    given = {"task.data": str(folder / "pairs.jsonl"), "task.text": ["text", "other"]}
    message = "row 1 of the training rows has token type 1, and '{}' has embeddings for 1 token type;"
    assert message.format(folder / "typeless") in refused(folder, "typeless", **given)
    assert planned(folder, "typeless"), "single texts have none"


def test_tokens_that_were_added_to_a_tokenizer_alone(folder):
    save_fitted(folder / "added", NAMES, [0, 1])
    tokenizer = AutoTokenizer.from_pretrained(folder / "added")
    tokenizer.add_tokens(["charming"], special_tokens=True)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder / "added")
    size = len(tokenizer) - 1
    assert planned(folder, "added"), "a word that no row has does no harm"
    message = refused(folder, "added", **{"task.data": str(folder / "words.jsonl")})
    assert f"has token {size} ('zebra'), and '{folder}/added' has embeddings for {size} tokens; resize them" in message
    tokenizer.add_special_tokens({"pad_token": "[MY PAD]"})
    tokenizer.save_pretrained(folder / "added")
    assert f"the padding token '[MY PAD]' is {size + 1}, and" in refused(folder, "added")


def test_a_decoder_that_does_not_say_how_it_begins(folder):
    size = save_tokenizer(folder / "t5")
    sizes = {"d_model": 24, "d_kv": 6, "num_heads": 4, "d_ff": 24, "num_layers": 2, "eos_token_id": 3}
    save_model(folder / "t5", T5Config(vocab_size=size, **sizes), NAMES)
    message = refused(folder, "t5")
    assert f"teacher.model: the config of '{folder}/t5' has no decoder_start_token_id" in message


# Tokenizers


def other_tokenizer(folder: Path, name: str, change) -> str:
    """A student like the teacher ``named``, whose tokenizer was changed; its folder."""
    save_fitted(folder / name, NAMES, [0, 1])
    backend = Tokenizer.from_str(AutoTokenizer.from_pretrained(folder / name).backend_tokenizer.to_str())
    change(backend)
    special = {f"{part}_token": f"[{part.upper()}]" for part in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=128, **special).save_pretrained(folder / name)
    return str(folder / name)


def has_own_tokens(folder: Path, **given: object) -> bool:
    """Whether the teacher ``named`` reads the rows in tokens of its own."""
    plan, _ = planned(folder, "{{model: {}/named, check: false}}", **given)
    return plan.parts.teachers["teacher"].own_tokens is not None


def cased(backend: Tokenizer) -> None:
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)


def without_begin(backend: Tokenizer) -> None:
    backend.post_processor = processors.TemplateProcessing("$A [SEP]", special_tokens=[("[SEP]", 3)])


def with_more_words(backend: Tokenizer) -> None:
    backend.add_tokens(["zebra"])


def test_the_same_vocabulary_read_otherwise_is_a_second_encoding(folder):
    rows = [{"text": f"A {word.title()} Film", "label": name} for word in ("Warm", "Dull") for name in NAMES] * 10
    write(folder / "titles.jsonl", rows)
    student = other_tokenizer(folder, "cased", cased)
    assert has_own_tokens(folder, student=student, **{"task.data": str(folder / "titles.jsonl")})
    assert not has_own_tokens(folder, student=student), "rows in small letters are the same for both"
    student = other_tokenizer(folder, "beginless", without_begin)
    assert has_own_tokens(folder, student=student)


def test_more_words_do_no_harm_where_rows_are_equal(folder):
    student = other_tokenizer(folder, "more", with_more_words)
    assert not has_own_tokens(folder, student=student)
    plan, _ = planned(folder, "named", student=student)
    assert not any(name.startswith("teacher/") for name in plan.parts.rows["train"].column_names)
    masking = {"kind": "Masking", "probability": 0.2}
    assert has_own_tokens(folder, student=student, **{"task.augment": masking}), "tokens are drawn"


def test_more_tokens_than_the_teacher_reads(folder):
    save_fitted(folder / "brief", NAMES, [0, 1], max_position_embeddings=64)
    given = {"task.data": str(folder / "long.jsonl")}
    message = "row 1 of the training rows has 70 tokens, and '{}' has 64 positions; write a smaller teacher.max_length"
    assert message.format(folder / "brief") in refused(folder, limited("brief", 70), **given)
    message = "task: the max_length of teacher: 2 leaves no room for text beside 2 special tokens; write a larger"
    assert message in refused(folder, limited("brief", 2), **given)
    assert "teacher.max_length: must be at least 1, not 0" in refused(folder, limited("brief", 0))


def limited(teacher: str, length: int) -> str:
    """The teacher of a config, by its folder's name, with a maximal length of its own."""
    return f"{{{{model: {{}}/{teacher}, max_length: {length}}}}}"
