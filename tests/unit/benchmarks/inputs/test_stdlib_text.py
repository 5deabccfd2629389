"""The quickstart's data set: what every installed Python must give, and what its steps do to a small text."""

import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from datasets import ClassLabel, load_dataset
from transformers import AutoTokenizer

from benchmarks.inputs import stdlib_text
from benchmarks.inputs.stdlib_text import (
    choose_held_out,
    documentation,
    new_sentences,
    pack,
    passages,
    train_tokenizer,
    write,
)


@pytest.fixture(scope="module")
def rows():
    return passages()


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The folder that the command wrote, and what it printed, with another order of sets than here."""
    folder = tmp_path_factory.mktemp("written")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.inputs.stdlib_text", str(folder)],
        cwd=Path(__file__).parents[4],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def written(command):
    return command[0]


def test_there_is_enough_of_every_class_on_both_sides(rows):
    assert len(rows) >= 3000
    counts = Counter((row.label, row.split) for row in rows)
    labels = {row.label for row in rows}
    assert 8 <= len(labels) <= 12
    assert all(counts[label, "train"] >= 100 and counts[label, "validation"] >= 20 for label in labels)
    assert 0.15 < sum(row.split == "validation" for row in rows) / len(rows) < 0.25
    assert max(counts.values()) < len(rows) / 4


def test_no_module_and_no_text_is_on_both_sides_or_in_two_classes(rows):
    sides, areas = defaultdict(set), defaultdict(set)
    for row in rows:
        sides[row.module].add(row.split)
        areas[row.module].add(row.label)
    assert all(len(groups) == 1 for groups in [*sides.values(), *areas.values()])
    assert len({row.text.lower() for row in rows}) == len(rows)


def test_passages_are_eight_to_sixty_words_without_prompts(rows):
    assert all(8 <= len(row.text.split()) <= 60 for row in rows)
    assert not [row.text for row in rows if ">>>" in row.text or "`" in row.text or "\n" in row.text]


def test_an_area_with_too_little_to_hold_out_is_left_out(tmp_path):
    (tmp_path / "turtle.py").write_text('"""' + "A turtle draws nice lines on a canvas. " * 3 + '"""\n')
    (tmp_path / "email" / "test").mkdir(parents=True)
    for number in range(200):
        text = f"Passage about letters and their envelopes, number {'x' * number} of them."
        (tmp_path / "email" / f"part{number}.py").write_text(f'"""{text}"""\n')
        (tmp_path / "email" / "test" / f"check{number}.py").write_text(f'"""Check that {text}"""\n')
    rows = passages(tmp_path)
    assert {row.label for row in rows} == {"mail"}
    assert Counter(row.split for row in rows) == {"train": 160, "validation": 40}


def test_a_folder_without_sources_is_refused(tmp_path):
    with pytest.raises(ValueError, match="^library: "):
        passages(tmp_path)


def test_documentation_is_docstrings_and_comment_blocks_in_the_order_of_the_file():
    source = (
        '"""The module."""\n\n# A block\n# of two lines.\n\nx = 1  # not this one\n# nor a single line\n\n'
        'if x:\n    class A:\n        """The class."""\n\n'
        '        async def f(self):\n            """The method."""\n'
    )
    assert documentation(source) == ["The module.", "A block\nof two lines.\n", "The class.", "The method."]


def test_sentences_lose_prompts_markup_code_and_legal_notes_and_come_once():
    text = (
        "Return the :class:`Frame` *now*.  Copyright 2001 by somebody.\n"
        "x = f(y[1], 2) + g(3)\n"
        "\n- Return the Frame now. Second\n  line here.\n\nExample: some words\n>>> f(1)\n2\n"
    )
    sentences = [" ".join(words) for words in new_sentences([text], set())]
    assert sentences == ["Return the Frame now.", "Second line here.", "Example: some words"]
    assert not list(new_sentences(["return the frame now."], {"return the frame now."}))


def test_pack_joins_short_neighbours_and_cuts_long_sentences():
    assert pack([["a"] * 5, ["b"] * 4]) == ["a a a a a b b b b"]
    assert [len(text.split()) for text in pack([["a"] * 50, ["b"] * 20])] == [50, 20]
    assert [len(text.split()) for text in pack([["a"] * 130])] == [60, 60, 10]
    assert pack([["a"] * 7]) == []


def test_large_modules_are_never_held_out_and_a_fifth_is_not_exceeded():
    sizes = {"large": 30, **{f"m{i}": 7 for i in range(10)}}
    held_out = choose_held_out(sizes)
    assert "large" not in held_out
    assert len(held_out) == 2  # 14 of 100; a third would make 21
    assert choose_held_out(dict(reversed(sizes.items()))) == held_out


def test_the_written_folder_is_a_data_set_and_the_same_in_every_process(written, rows, tmp_path):
    data = load_dataset(str(written), cache_dir=str(tmp_path))
    assert set(data) == {"train", "validation"}
    label = data["train"].features["label"]
    assert isinstance(label, ClassLabel) and label.names == sorted({row.label for row in rows})
    assert data["validation"].features == data["train"].features
    for split in data:
        table = zip(data[split]["text"], label.int2str(data[split]["label"][:]), data[split]["module"], strict=False)
        assert list(table) == [(row.text, row.label, row.module) for row in rows if row.split == split]


def test_writing_leaves_two_files_and_is_skipped_the_second_time(written, monkeypatch):
    assert {path.name for path in written.iterdir()} == {"train.parquet", "validation.parquet"}
    monkeypatch.setattr(stdlib_text, "passages", lambda: pytest.fail("read the library again"))
    write(written)


def test_a_failed_write_leaves_nothing_that_looks_written(rows, tmp_path, monkeypatch):
    def full(self, path):
        path.write_text("half")
        raise OSError("full")

    monkeypatch.setattr(stdlib_text, "passages", lambda: rows)
    monkeypatch.setattr(stdlib_text.Dataset, "to_parquet", full)
    with pytest.raises(OSError, match="full"):
        write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_table(command, rows):
    lines = command[1].splitlines()
    counts = Counter((row.label, row.split) for row in rows)
    assert lines[0].split() == ["class", "train", "validation"]
    assert [line.rsplit(maxsplit=2) for line in lines[1:]] == [
        [label, str(counts[label, "train"]), str(counts[label, "validation"])]
        for label in sorted({row.label for row in rows})
    ]


def test_the_tokenizer_loads_and_is_like_berts(written, rows, tmp_path):
    train_tokenizer(written, tmp_path, vocab_size=1000)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 1000
    assert set(tokenizer.get_added_vocab()) == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    batch = tokenizer(["Open the file.", "a"], ["Close it.", "b"], padding=True)
    assert list(batch) == ["input_ids", "token_type_ids", "attention_mask"]
    first = tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
    assert first[0] == "[CLS]" and first[-1] == "[SEP]" and first.count("[SEP]") == 2
    middle = first.index("[SEP]") + 1
    assert batch["token_type_ids"][0] == [0] * middle + [1] * (len(first) - middle)
    assert batch["input_ids"][1][-1] == tokenizer.pad_token_id and batch["attention_mask"][1][-1] == 0
    assert tokenizer.decode(tokenizer("Return the FILE")["input_ids"][1:-1]) == "return the file"
    ids = tokenizer([row.text for row in rows])["input_ids"]
    unknown = sum(row.count(tokenizer.unk_token_id) for row in ids)
    assert unknown < len(rows) / 100


def test_the_tokenizer_is_the_same_every_time(written, tmp_path):
    for name in ("one", "two"):
        train_tokenizer(written, tmp_path / name, vocab_size=1000)
    first, second = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("one", "two"))
    assert first == second


def test_the_tokenizer_needs_the_data(tmp_path):
    with pytest.raises(ValueError, match="^data: "):
        train_tokenizer(tmp_path / "nothing", tmp_path / "out")
