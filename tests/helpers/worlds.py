"""For each task made-up data that can be learnt, and a teacher with the right head; shared by its tests."""

from __future__ import annotations

import random
from pathlib import Path

import torch
import transformers
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import BertConfig, GPT2Config, PreTrainedModel, T5Config

from distill.tasks.classes import Classes
from distill.tasks.kinds.language.causal import CausalLM
from distill.tasks.kinds.language.masked import MaskedLM
from distill.tasks.kinds.language.sequences import Seq2Seq
from distill.tasks.kinds.multi_label import MultiLabel
from distill.tasks.kinds.rankings import Ranking
from distill.tasks.kinds.spans import QuestionAnswering
from distill.tasks.kinds.texts import Classification, Regression
from distill.tasks.kinds.tokens import TokenClassification
from distill.tasks.task import Task
from tests.helpers.repositories import BAD, GOOD, NOUNS, save_tokenizer

TAGS = ["O", "B-thing", "I-thing", "B-praise"]


def tagged(draw: random.Random) -> dict:
    """A text in words: adjectives of praise, and things of two words."""
    words, tags = [], []
    for _ in range(draw.randint(2, 4)):
        kind = draw.randrange(3)
        words += [[draw.choice(GOOD)], draw.sample(NOUNS, 2), [draw.choice(BAD)]][kind]
        tags += [[3], [1, 2], [0]][kind]
    return {"tokens": words, "ner_tags": tags}


def asked(draw: random.Random) -> dict:
    """A question whose answer is the adjective before the noun that it asks for."""
    pairs = [(draw.choice(GOOD + BAD), noun) for noun in draw.sample(NOUNS, draw.randint(2, 3))]
    context, (answer, noun) = "the " + " and the ".join(f"{a} {n}" for a, n in pairs), draw.choice(pairs)
    begin = context.index(f"{answer} {noun}")
    answers = {"text": [answer], "answer_start": [begin]}
    return {"question": f"is the {noun} {noun}", "context": context, "answers": answers}


def told(draw: random.Random) -> dict:
    """A line of raw text, sometimes an empty one."""
    return {"text": " ".join(draw.sample(GOOD + NOUNS, 6)) if draw.random() < 0.9 else ""}


def turned(draw: random.Random) -> dict:
    """Words, and the same words from the last to the first."""
    words = draw.sample(GOOD + NOUNS, draw.randint(3, 6))
    return {"left": " ".join(words), "right": " ".join(reversed(words))}


def scored(draw: random.Random) -> dict:
    """A text, and how many of its words praise."""
    words = draw.choices(GOOD + BAD, k=draw.randint(3, 8))
    return {"sentence": " ".join(words), "label": float(sum(word in GOOD for word in words))}


def praised(draw: random.Random) -> dict:
    """A text of a few words, and which kinds of words it has; one of eight has none of them."""
    kinds = {"praise": GOOD, "blame": BAD, "thing": NOUNS}
    held = [name for name in kinds if draw.random() < 0.5]
    words = [draw.choice(kinds[name]) for name in held] + ["the"]
    return {"sentence": " ".join(words), "labels": held}


def sought(draw: random.Random) -> dict:
    """A query, which other rows have too, and a passage; relevant if it is about the same thing."""
    noun, about = draw.choice(NOUNS[:6]), draw.choice(NOUNS[:6])
    return {
        "query": f"is the {noun} good",
        "passage": f"the {about} is {draw.choice(GOOD)}",
        "label": int(noun == about),
    }


WORLDS = {
    "regression": (Regression, scored, BertConfig),
    "token_classification": (TokenClassification, tagged, BertConfig),
    "question_answering": (QuestionAnswering, asked, BertConfig),
    "masked_lm": (MaskedLM, told, BertConfig),
    "causal_lm": (CausalLM, told, GPT2Config),
    "seq2seq": (Seq2Seq, turned, T5Config),
    "multi_label": (MultiLabel, praised, BertConfig),
    "ranking": (Ranking, sought, BertConfig),
}
COLUMNS = {"seq2seq": {"source": "left", "target": "right"}, "multi_label": {"label": "labels"}}
"""What a task has to be told of its data."""


def three_classes() -> Classification:
    """The task as it is after looking at data of three classes."""
    task = Classification(data="none")
    task.classes = Classes(["a", "b", "c"])
    return task


def three_labels(**given: object) -> MultiLabel:
    """The task as it is after looking at data of three labels."""
    task = MultiLabel(data="none", **given)
    task.classes = Classes(["a", "b", "c"])
    return task


def save_data(name: str, folder: Path, rows: int = 48) -> None:
    """Writes ``train`` and ``validation``."""
    make = WORLDS[name][1]
    features = None
    if name == "token_classification":
        features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=TAGS))})
    for seed, (split, count) in enumerate({"train": rows, "validation": rows // 4}.items()):
        draw = random.Random(seed)
        Dataset.from_list([make(draw) for _ in range(count)], features=features).to_parquet(folder / f"{split}.parquet")


def save_teacher(name: str, folder: Path, layers: int = 4, hidden: int = 32) -> PreTrainedModel:
    """Saves a random model with the head of the task, and its tokenizer."""
    task, _, kind = WORLDS[name]
    size = save_tokenizer(folder)
    if kind is BertConfig:
        sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": 4}
        config = BertConfig(vocab_size=size, intermediate_size=2 * hidden, max_position_embeddings=64, **sizes)
    elif kind is T5Config:
        sizes = {"num_layers": layers, "d_model": hidden, "num_heads": 4, "d_kv": hidden // 4, "d_ff": 2 * hidden}
        config = T5Config(vocab_size=size, decoder_start_token_id=0, eos_token_id=3, **sizes)
    else:
        # A vocabulary that is padded to a round size, as many are.
        config = GPT2Config(vocab_size=size + 11, n_layer=layers, n_embd=hidden, n_head=4, n_positions=64)
    if name in ("regression", "ranking"):
        config.num_labels = 1
    if name == "ranking":
        config.initializer_range = 0.3  # else the scores of all passages are nearly the same
    if name == "multi_label":
        config.id2label, config.problem_type = dict(enumerate(["thing", "praise", "blame"])), task.problem
    if name == "token_classification":
        config.id2label, config.label2id = dict(enumerate(TAGS)), {tag: i for i, tag in enumerate(TAGS)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, task.auto_class).from_config(config)
    model.save_pretrained(folder)
    return model


def ready_task(name: str, folder: Path, **given: object) -> Task:
    """The task on its data in ``folder``, not set up yet."""
    return WORLDS[name][0](data=str(folder), max_length=32, batch_size=8, **COLUMNS.get(name, {}), **given)
