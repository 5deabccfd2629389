"""Tiny models and data in the layout of the Hugging Face hub, for tests: made up, never downloaded."""

import random
import string
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForQuestionAnswering,
    BertTokenizer,
    PreTrainedConfig,
)

GOOD = ["bright", "charming", "clever", "funny", "great", "lovely", "moving", "sharp", "tender", "warm"]
BAD = ["awful", "bland", "boring", "clumsy", "dull", "flat", "hollow", "lazy", "messy", "stale"]
NOUNS = ["actor", "camera", "comedy", "drama", "ending", "film", "movie", "music", "plot", "script"]
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
OTHER = ["a", "and", "it", "is", "not", "one", "of", "the", "this", "very", "with"]


def save_tokenizer(folder: Path) -> int:
    """Save a lower-casing WordPiece tokenizer and return its size.

    Every ASCII letter, digit and mark is a piece, so any English text has ids other than [UNK].
    """
    characters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *string.punctuation]
    pieces += [f"##{character}" for character in characters] + GOOD + BAD + NOUNS + OTHER[1:]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    BertTokenizer(vocab=vocabulary, model_max_length=128).save_pretrained(folder)
    return len(vocabulary)


def save_model(folder: Path, config: PreTrainedConfig, labels: list[str]) -> None:
    """Save a random model of `config` with a classifier of `labels`, or without a head where there are none.

    The weights are the same in every call; `torch`'s random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if labels:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: number for number, label in enumerate(labels)}
            model = AutoModelForSequenceClassification.from_config(config)
        else:
            model = AutoModel.from_config(config)
    model.save_pretrained(folder)


def save_tiny_bert(
    folder: Path, *, layers: int = 12, hidden: int = 48, heads: int = 12, labels: list[str] | None = None
) -> None:
    """Save a random BERT (intermediate size 2 * `hidden`) and its tokenizer into `folder`.

    With `labels` it is a sequence classifier, such as textattack/bert-base-uncased-SST-2; without, a bare
    encoder, such as huawei-noah/TinyBERT_General_6L_768D.
    """
    config = BertConfig(
        vocab_size=save_tokenizer(folder),
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        max_position_embeddings=128,
    )
    save_model(folder, config, labels or [])


def sentences(rows: int, seed: int) -> list[dict]:
    """Made-up reviews as SST-2 writes them; `label` 1 where the adjectives are good, so it can be learnt."""
    draw = random.Random(seed)
    made = []
    for number in range(rows):
        label = number % 2
        first, second = draw.sample(GOOD if label else BAD, 2)
        noun, other = draw.sample(NOUNS, 2)
        text = f"{draw.choice(['a', 'this', 'one'])} {first} {noun} with a very {second} {other}"
        made.append({"sentence": text, "label": label, "idx": number})
    return made


def save_sst2(folder: Path, rows: int) -> None:
    """Save a dataset repository with GLUE's config `sst2`: `rows` of training, a quarter of validation."""
    features = Features(
        {
            "sentence": Value("string"),
            "label": ClassLabel(names=["negative", "positive"]),
            "idx": Value("int32"),
        }
    )
    save_dataset(folder, "sst2", lambda count, seed: Dataset.from_list(sentences(count, seed), features=features), rows)


def save_dataset(folder: Path, config: str, make: Callable[[int, int], Dataset], rows: int) -> None:
    """Save a config of a dataset repository: `rows` of training, a quarter of validation.

    Args:
        folder: of the repository, which may have other configs.
        config: its name.
        make: a data set of a number of rows, with a seed.
        rows: of training.
    """
    (folder / config).mkdir(parents=True)
    for seed, (split, count) in enumerate({"train": rows, "validation": max(2, rows // 4)}.items()):
        make(count, seed).to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
    lines = [
        f"- config_name: {name}\n  data_files:\n"
        f"  - {{split: train, path: {name}/train-*}}\n  - {{split: validation, path: {name}/validation-*}}\n"
        for name in sorted(path.name for path in folder.iterdir() if path.is_dir())
    ]
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(lines)}---\n")


def save_stsb(folder: Path, rows: int) -> None:
    """Save GLUE's config `stsb`: two sentences are alike by the share of their words that are the same."""

    def make(count: int, seed: int) -> Dataset:
        texts = [row["sentence"] for row in sentences(count + 1, seed)]
        pairs = [(first, second, set(first.split()), set(second.split())) for first, second in pairwise(texts)]
        scores = [5 * len(words & others) / len(words | others) for _, _, words, others in pairs]
        rows = {"sentence1": texts[:-1], "sentence2": texts[1:], "label": scores, "idx": list(range(count))}
        return Dataset.from_dict(rows)

    save_dataset(folder, "stsb", make, rows)


def save_conll(folder: Path, rows: int) -> None:
    """Save a data set as `lhoestq/conll2003` has it: a noun is an organisation, the word after it goes on with it."""
    features = Features(
        {"id": Value("string"), "tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=TAGS))}
    )

    def make(count: int, seed: int) -> Dataset:
        words = [row["sentence"].split() for row in sentences(count, seed)]
        tags = [
            [3 if word in NOUNS else 4 if before in NOUNS else 0 for before, word in pairwise(["", *row])]
            for row in words
        ]
        ids = [str(number) for number in range(count)]
        return Dataset.from_dict({"id": ids, "tokens": words, "ner_tags": tags}, features=features)

    save_dataset(folder, "conll2003", make, rows)


def save_squad(folder: Path, rows: int) -> None:
    """Save a data set as `rajpurkar/squad` has it: the answer is the third word of the context."""

    def make(count: int, seed: int) -> Dataset:
        contexts = [row["sentence"] for row in sentences(count, seed)]
        answers = [context.split()[2] for context in contexts]
        return Dataset.from_dict(
            {
                "id": [str(number) for number in range(count)],
                "title": ["film"] * count,
                "context": contexts,
                "question": ["what is it?"] * count,
                "answers": [
                    {"text": [answer], "answer_start": [context.index(answer)]}
                    for context, answer in zip(contexts, answers, strict=True)
                ],
            }
        )

    save_dataset(folder, "plain_text", make, rows)


def save_tiny_reader(folder: Path, *, layers: int, hidden: int, heads: int) -> None:
    """Save a random BERT that answers questions, and its tokenizer."""
    config = BertConfig(
        vocab_size=save_tokenizer(folder),
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForQuestionAnswering(config)
    model.save_pretrained(folder)
