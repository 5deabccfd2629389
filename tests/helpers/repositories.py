"""Tiny models and data in the layout of the Hugging Face hub, for tests: made up, never downloaded."""

import random
import string
from pathlib import Path

import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertTokenizer,
    PreTrainedConfig,
)

GOOD = ["bright", "charming", "clever", "funny", "great", "lovely", "moving", "sharp", "tender", "warm"]
BAD = ["awful", "bland", "boring", "clumsy", "dull", "flat", "hollow", "lazy", "messy", "stale"]
NOUNS = ["actor", "camera", "comedy", "drama", "ending", "film", "movie", "music", "plot", "script"]
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
    (folder / "sst2").mkdir(parents=True)
    for seed, (split, count) in enumerate({"train": rows, "validation": max(2, rows // 4)}.items()):
        data = Dataset.from_list(sentences(count, seed), features=features)
        data.to_parquet(folder / "sst2" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: sst2\n  data_files:\n"
        "  - {split: train, path: sst2/train-*}\n  - {split: validation, path: sst2/validation-*}\n---\n"
    )
