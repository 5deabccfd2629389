"""Words and their tags: which token is asked for, in which order the tags stand, and F1 of whole entities."""

import random
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Features, List, Value
from nervaluate import Evaluator
from torchmetrics.classification import MulticlassAccuracy
from transformers import PreTrainedTokenizerBase

from distill.data import prepare_data
from distill.tasks.classes import Classes
from distill.tasks.kinds.tokens import TokenClassification
from distill.tasks.metrics.predictions import EntityF1
from students.recording.sparse_lm_head import IGNORED
from tests.helpers.tables import refused, write

TAGS = ["O", "B-thing", "I-thing", "B-praise", "I-praise"]


def texts(draw: random.Random, count: int) -> list[list[str]]:
    """Random tags: most I- follow nothing that they could belong to."""
    return [draw.choices(TAGS, k=draw.randint(1, 12)) for _ in range(count)]


def padded(tags: list[list[str]], like: list[list[str]]) -> torch.Tensor:
    """Their numbers, [B, S]; where ``like`` ends, -100."""
    length = max(map(len, like))
    return torch.tensor([[TAGS.index(tag) for tag in row] + [IGNORED] * (length - len(row)) for row in tags])


def f1(message: list[list[str]], true: list[list[str]], *batches: slice) -> EntityF1:
    metric = EntityF1(TAGS)
    for part in batches or [slice(None)]:
        padded_part, wanted = padded(message[part], true[part]), padded(true[part], true[part])
        # What is said where there is no word may be anything.
        metric.update(torch.where(wanted == IGNORED, 1, padded_part), wanted)
    return metric


def conll(tags: list[str]) -> set[tuple[str, int, int]]:
    """The entities of a text, as conlleval.pl finds them."""
    entities, begin = set(), None
    for i, (before, tag) in enumerate(zip(["O", *tags], [*tags, "O"], strict=True)):
        ends = before != "O" and (tag == "O" or tag[0] == "B" or tag[2:] != before[2:])
        if ends:
            entities.add((before[2:], begin, i - 1))
        if tag != "O" and (before == "O" or ends):
            begin = i
    return entities


@pytest.mark.parametrize("seed", range(5))
def test_f1_as_nervaluate_and_conll_have_it(seed):
    draw = random.Random(seed)
    true = texts(draw, 40)
    message = [[tag if draw.random() < 0.7 else draw.choice(TAGS) for tag in row] for row in true]
    strict = Evaluator(true, message, tags=["thing", "praise"], loader="list").evaluate()["overall"]["strict"]
    pairs = [(conll(a), conll(b)) for a, b in zip(message, true, strict=True)]
    right, predicted, real = (sum(map(len, sets)) for sets in ([a & b for a, b in pairs], *zip(*pairs, strict=True)))
    value = float(f1(message, true).compute())
    assert 0.2 < value < 0.8
    assert value == pytest.approx(strict.f1) == pytest.approx(2 * right / (predicted + real))


@pytest.mark.parametrize(
    ("message", "true", "wanted"),
    [
        ("O I-thing I-thing", "O B-thing I-thing", 1.0),  # an I- that follows nothing begins
        ("B-thing B-thing", "B-thing I-thing", 0.0),  # two of one word, not one of two
        ("B-thing I-praise", "B-thing B-praise", 1.0),  # nor does it go on with one of another class
        ("B-thing I-thing O", "B-thing I-thing I-thing", 0.0),  # an end too early is no entity
        ("B-thing O B-praise", "B-thing O O", 2 / 3),
        ("O O O", "O O O", 0.0),
    ],
)
def test_f1_by_hand(message, true, wanted):
    assert float(f1([message.split()], [true.split()]).compute()) == pytest.approx(wanted)


def test_f1_does_not_depend_on_batches_nor_ranks():
    draw = random.Random(0)
    true = texts(draw, 20)
    message = [[tag if draw.random() < 0.7 else draw.choice(TAGS) for tag in row] for row in true]
    overall, parts = f1(message, true), f1(message, true, slice(0, 3), slice(3, 4), slice(4, 20))
    first, second = f1(message, true, slice(0, 20, 2)), f1(message, true, slice(1, 20, 2))
    for name, reduce in overall._reductions.items():
        joined = reduce(torch.stack([getattr(first, name), getattr(second, name)]))
        assert getattr(overall, name) == getattr(parts, name) == joined
    assert overall.compute() == parts.compute() > 0


# From words to labels


def encoded(words: list[str], tags: list, tokenizer: PreTrainedTokenizerBase, **given: object) -> dict:
    task = TokenClassification(data="x", **given)
    task.tokenizer, task.classes = tokenizer, Classes(TAGS, feature=TAGS)
    return task.encode({"tokens": [words], "ner_tags": [tags]})


WORDS = ["the", "zebra's", "film", "(xyz)", "!"]
NUMBERS = [0, 1, 2, 3, 4]


def test_only_the_first_token_of_a_word_is_asked(tokenizer):
    encoding = encoded(WORDS, NUMBERS, tokenizer)
    tokens, labels = tokenizer.convert_ids_to_tokens(encoding["input_ids"][0]), encoding["labels"][0]
    labelled = [(token, label) for token, label in zip(tokens, labels, strict=True) if label != IGNORED]
    assert labelled == [("the", 0), ("z", 1), ("film", 2), ("(", 3), ("!", 4)]
    assert labels[0] == labels[-1] == IGNORED and len(tokens) > 12


@pytest.mark.parametrize("length", range(3, 20))
def test_words_that_are_cut_off_are_not_asked(tokenizer, length):
    full, cut = encoded(WORDS, NUMBERS, tokenizer), encoded(WORDS, NUMBERS, tokenizer, max_length=length)
    assert len(cut["labels"][0]) == len(cut["input_ids"][0]) == min(length, len(full["input_ids"][0]))
    assert cut["labels"][0][:-1] == full["labels"][0][: len(cut["labels"][0]) - 1]
    assert cut["labels"][0][-1] == IGNORED


def test_a_word_without_tokens_is_left_out(tokenizer):
    encoding = encoded(["film", "\u200b", "plot"], [1, 2, 3], tokenizer)
    assert [label for label in encoding["labels"][0] if label != IGNORED] == [1, 3]


def read(folder: Path, tags: list, kind: Value | ClassLabel, tokenizer: PreTrainedTokenizerBase, **given) -> tuple:
    """The task, and the labels of the words of the first training row."""
    head = given.pop("head", None)
    features = Features({"tokens": List(Value("string")), "ner_tags": List(kind)})
    for split in ("train", "validation"):
        write(folder / f"{split}.parquet", [{"tokens": WORDS, "ner_tags": tags}] * 2, features)
    task = TokenClassification(data=str(folder), **given)
    rows = prepare_data(task, tokenizer, {"": dict(enumerate(head))} if head else None)
    return task, [label for label in rows["train"]["labels"][0] if label != IGNORED]


def test_tags_by_name_and_by_number(tokenizer, tmp_path):
    task, labels = read(tmp_path, NUMBERS, ClassLabel(names=TAGS), tokenizer)
    assert (task.classes.names, labels) == (TAGS, NUMBERS)
    spelt = [TAGS[number] for number in NUMBERS]
    task, labels = read(tmp_path, spelt, Value("string"), tokenizer)
    assert task.classes.names == sorted(TAGS) and [task.classes.names[label] for label in labels] == spelt
    task, labels = read(tmp_path, NUMBERS, Value("int64"), tokenizer, metric="accuracy")
    assert (task.classes.names, labels) == ([f"LABEL_{i}" for i in range(5)], NUMBERS)


def test_the_order_of_the_teacher_is_followed(tokenizer, tmp_path):
    head = [TAGS[i] for i in (3, 0, 4, 2, 1)]
    for tags, kind in ((NUMBERS, ClassLabel(names=TAGS)), ([TAGS[i] for i in NUMBERS], Value("string"))):
        task, labels = read(tmp_path, tags, kind, tokenizer, head=head)
        assert task.classes.names == head and [head[label] for label in labels] == TAGS
    task, labels = read(tmp_path, NUMBERS, Value("int64"), tokenizer, head=head)
    assert (task.classes.names, labels) == (head, NUMBERS), "numbers alone take its names"
    assert task.metrics().keys() == {"f1", "accuracy"}


def test_tags_that_are_no_entities_have_no_f1(tokenizer, tmp_path):
    speech = ClassLabel(names=["NOUN", "VERB", "DET", "ADJ", "PUNCT"])
    with pytest.raises(ValueError, match=r"^metric: f1 needs tags B-..., I-... and O, not NOUN, VERB.*; use accuracy$"):
        read(tmp_path, NUMBERS, speech, tokenizer)
    task, labels = read(tmp_path, NUMBERS, speech, tokenizer, metric="accuracy")
    assert (labels, task.main_metric, list(task.metrics())) == (NUMBERS, "accuracy", ["accuracy"])


def test_accuracy_is_of_words(tokenizer):
    task, draw = TokenClassification(data="x"), torch.Generator().manual_seed(0)
    task.classes = Classes(TAGS, feature=TAGS)
    labels = torch.randint(5, (6, 9), generator=draw)
    labels[torch.rand(6, 9, generator=draw) < 0.4] = IGNORED
    logits = torch.randn(6, 9, 5, generator=draw) + 2 * torch.nn.functional.one_hot(labels.clamp(min=0), 5)
    metrics, batch = task.metrics(), {"input_ids": labels, "labels": labels}
    task.update_metrics(metrics, logits, batch)
    task.update_metrics(metrics, logits, batch | {"labels": torch.full_like(labels, IGNORED)})
    mask = labels != IGNORED
    right = (logits.argmax(-1) == labels)[mask]
    assert float(metrics.compute()["accuracy"]) == pytest.approx(float(right.float().mean()))
    assert torch.equal(task.predictions(logits, batch) == labels[mask], right)
    reference = MulticlassAccuracy(5, average="micro")(logits[mask], labels[mask])
    assert float(metrics.compute()["accuracy"]) == pytest.approx(float(reference))


# What is refused


def table(words: object, tags: object) -> list[dict]:
    return [{"tokens": ["film"], "ner_tags": ["O"]}] * 3 + [{"tokens": words, "ner_tags": tags}]


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        ([], [], "'tokens' is empty"),
        (None, ["O"], "'tokens' is empty"),
        (["film", None], ["O", "O"], "'tokens' is not a list of texts"),
        (["one", "film"], ["O"], "'ner_tags' has 1 tags for 2 words"),
        (["one"], ["O", "O"], "'ner_tags' has 2 tags for 1 words"),
        (["one"], None, "'ner_tags' has 0 tags for 1 words"),
        (["one"], [None], "'ner_tags' has None; a class is a whole number or a text"),
    ],
)
def test_a_bad_row_is_named(words, tags, message, tokenizer, tmp_path):
    file = write(tmp_path / "all.jsonl", table(words, tags))
    assert refused(TokenClassification(data=file), tokenizer) == f"data: {file} line 4: {message}"


def test_an_unknown_tag_is_named(tokenizer, tmp_path):
    write(tmp_path / "train.jsonl", table(["one"], ["B-thing"]))
    file = write(tmp_path / "validation.jsonl", table(["one"], ["B-thin"]))
    message = f"data: {file} line 4: 'ner_tags' has 'B-thin', not one of B-thing, O"
    assert refused(TokenClassification(data=str(tmp_path)), tokenizer) == message


def test_columns_that_do_not_serve_are_named(tokenizer, tmp_path):
    texts = write(tmp_path / "texts.jsonl", [{"tokens": "one film", "ner_tags": ["O", "O"]}] * 2)
    message = "words: the column 'tokens' does not hold lists"
    assert refused(TokenClassification(data=texts), tokenizer) == message
    tags = write(tmp_path / "tags.jsonl", [{"tokens": ["one", "film"], "ner_tags": "O O"}] * 2)
    assert refused(TokenClassification(data=tags), tokenizer) == "tags: the column 'ner_tags' does not hold lists"
    file = write(tmp_path / "all.jsonl", [{"words": ["film"], "tags": ["O"]}] * 2)
    message = "there is no column 'tokens'; there are words, tags"
    assert refused(TokenClassification(data=file), tokenizer) == f"words: {message}"
    message = "tags: there is no column 'ner_tags'; there are words, tags"
    assert refused(TokenClassification(data=file, words="words"), tokenizer) == message
    numbers = write(tmp_path / "numbers.jsonl", [{"tokens": [1, 2], "ner_tags": ["O", "O"]}] * 2)
    message = f"data: {numbers} line 1, 2: 'tokens' is not a list of texts"
    assert refused(TokenClassification(data=numbers), tokenizer) == message
    real = write(tmp_path / "real.jsonl", [{"tokens": ["one"], "ner_tags": [0.5]}] * 2)
    message = "line 1, 2: 'ner_tags' has 0.5; a class is a whole number or a text, and real numbers are for regression"
    assert message in refused(TokenClassification(data=real), tokenizer)


def test_tags_are_the_same_in_both_files(tokenizer, tmp_path):
    for split, names in (("train", TAGS), ("validation", TAGS[::-1])):
        features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))})
        write(tmp_path / f"{split}.parquet", [{"tokens": WORDS, "ner_tags": NUMBERS}] * 2, features)
    message = refused(TokenClassification(data=str(tmp_path)), tokenizer)
    assert message.startswith("data: the labels are ['O', 'B-thing'")
