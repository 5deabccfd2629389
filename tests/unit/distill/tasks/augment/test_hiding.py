"""Augmented rows: what is changed, how often, and that it is a function of seed, epoch and row."""

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from distill.data.batches import LengthGroupedBatchSampler, TrainLoader
from distill.tasks.augment.augmentation import AugmentedDataset
from distill.tasks.augment.hiding import Masking, NGrams

CLS, SEP, MASK = 1, 2, 3
SPECIAL = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *(f"w{i}" for i in range(95))]
WORDS = Tokenizer(models.WordLevel({name: i for i, name in enumerate(TOKENS)}, unk_token="[UNK]"))
TOKENIZER = PreTrainedTokenizerFast(tokenizer_object=WORDS, mask_token="[MASK]", **SPECIAL)
ROW = {"input_ids": [CLS, *range(10, 30), SEP, *range(40, 50), SEP], "token_type_ids": [0] * 22 + [1] * 11, "labels": 7}


def applied(step, row=ROW, times=200):
    step.setup(TOKENIZER)
    return [step.apply(row, torch.Generator().manual_seed(i)) for i in range(times)]


def test_masking_hides_its_share_of_the_words_and_nothing_else():
    rows = applied(Masking(probability=0.3))
    hidden = [new == MASK for row in rows for new in row["input_ids"] if new not in (CLS, SEP)]
    assert sum(hidden) / len(hidden) == pytest.approx(0.3, abs=0.02)
    for row in rows:
        assert all(new in (old, MASK) for new, old in zip(row["input_ids"], ROW["input_ids"], strict=True))
        assert {**row, "input_ids": None} == {**ROW, "input_ids": None}
        assert [row["input_ids"][i] for i in (0, 21, 32)] == [CLS, SEP, SEP]
    assert ROW["input_ids"][1] == 10


@pytest.mark.parametrize("probability, expected", [(0.0, 0.0), (1.0, 1.0)])
def test_masking_nothing_and_everything(probability, expected):
    rows = applied(Masking(probability=probability), times=3)
    assert all((new == MASK) == bool(expected) for row in rows for new in row["input_ids"] if new not in (CLS, SEP))


def test_a_piece_of_one_of_two_texts():
    rows, sizes = applied(NGrams(probability=1.0, max_tokens=4)), set()
    for row in rows:
        first, second = " ".join(map(str, row["input_ids"][1:-1])).split(f" {SEP} ")
        pieces = [list(map(int, text.split())) for text in (first, second)]
        whole = [list(range(10, 30)), list(range(40, 50))]
        cut = [piece != text for piece, text in zip(pieces, whole, strict=True)]
        assert sum(cut) == 1
        piece = pieces[cut.index(True)]
        assert piece == list(range(piece[0], piece[0] + len(piece))) and set(piece) <= set(whole[cut.index(True)])
        assert row["token_type_ids"] == [0] * (len(pieces[0]) + 2) + [1] * (len(pieces[1]) + 1)
        assert row["labels"] == 7
        sizes.add((cut.index(True), len(piece)))
    assert sizes == {(text, size) for text in (0, 1) for size in (1, 2, 3, 4)}


def test_pieces_come_with_their_share():
    rows = applied(NGrams(probability=0.25), times=1000)
    assert sum(row != ROW for row in rows) / 1000 == pytest.approx(0.25, abs=0.04)


def test_a_row_without_words_stays():
    empty = {"input_ids": [CLS, SEP], "labels": 0}
    assert applied(NGrams(probability=1.0), empty, 5) == [empty] * 5 == applied(Masking(probability=1.0), empty, 5)


def ready(*steps):
    for step in steps:
        step.setup(TOKENIZER)
    return list(steps)


def rows(epoch=0, seed=0):
    order = LengthGroupedBatchSampler([33] * 6, 2, seed=seed)
    order.set_epoch(epoch)
    data = Dataset.from_list([ROW] * 6)
    return [
        AugmentedDataset(
            data, [step.apply for step in ready(Masking(probability=0.3), NGrams(probability=0.5))], order
        )[i]
        for i in range(6)
    ]


def test_a_row_is_a_function_of_seed_and_epoch_and_itself():
    assert rows() == rows() != rows(epoch=1) != rows(seed=1)
    assert len({str(row) for row in rows()}) == 6


def test_batches_are_the_same_after_a_stop():
    def batches(position=0):
        order = LengthGroupedBatchSampler([33] * 6, 2)
        order.set_epoch(2)
        data = AugmentedDataset(
            Dataset.from_list([ROW] * 6), [step.apply for step in ready(Masking(probability=0.3))], order
        )
        loader = TrainLoader(data, order, lambda group: {"rows": group, "counts": torch.zeros(1)}, 1)
        loader.load_state_dict({"position": position})
        return [batch["rows"] for batch in loader]

    assert batches()[1:] == batches(1)


def test_without_a_mask_token():
    with pytest.raises(ValueError, match="augment: Masking needs a mask token"):
        Masking().setup(PreTrainedTokenizerFast(tokenizer_object=WORDS, **SPECIAL))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Masking(probability=1.5), r"probability: must lie in \[0, 1\], not 1.5"),
        (lambda: NGrams(probability=-0.1), r"probability: must lie in \[0, 1\], not -0.1"),
        (lambda: NGrams(max_tokens=0), "max_tokens: must be at least 1"),
    ],
)
def test_a_wrong_field(make, message):
    with pytest.raises(ValueError, match=message):
        make()
