"""Language modelling: pieces of a text, the tokens that are asked for, and perplexity."""

from copy import deepcopy
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from distill.data import prepare_data
from distill.data.batches import LengthGroupedBatchSampler
from distill.tasks.augment.augmentation import AugmentedDataset
from distill.tasks.kinds.language.causal import CausalLM
from distill.tasks.kinds.language.masked import MaskedLM
from distill.tasks.metrics.predictions import Perplexity
from students.recording.sparse_lm_head import IGNORED
from tests.helpers.tables import refused, write

LINES = ["the good film", "", "a warm, very warm ending", "x" * 40, "it is one dull plot"]


def texts(folder: Path, lines: list[str]) -> str:
    for split in ("train", "validation"):
        write(folder / f"{split}.parquet", [{"text": line} for line in lines])
    return str(folder)


def pieces(tokenizer: PreTrainedTokenizerBase, lines: list[str], length: int = 8, kind: type = CausalLM) -> dict:
    task = kind(data="x", max_length=length)
    task.tokenizer, task.texts = tokenizer, ["text"]
    return task.encode({"text": lines})


@pytest.mark.parametrize("length", [3, 8, 500])
def test_pieces_hold_the_whole_text_in_order(tokenizer, length):
    all_ids = pieces(tokenizer, LINES, length, MaskedLM)["input_ids"]
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert all(ids[0] == first and ids[-1] == last and len(ids) <= length for ids in all_ids)
    tokens = tokenizer("\n".join(LINES), add_special_tokens=False)["input_ids"]
    assert list(chain.from_iterable(ids[1:-1] for ids in all_ids)) == tokens
    assert all(len(ids) == length for ids in all_ids[:-1])


def test_each_token_is_asked_for_the_next(tokenizer):
    columns = pieces(tokenizer, LINES)
    for ids, labels in zip(columns["input_ids"], columns["labels"], strict=True):
        assert labels == [after for _, after in pairwise(ids)] + [IGNORED]


def test_nothing_is_made_of_empty_lines(tokenizer, tmp_path):
    assert pieces(tokenizer, ["", None, ""])["input_ids"] == []
    # Lines are read a thousand at a time.
    rows = prepare_data(CausalLM(data=texts(tmp_path, [""] * 1500 + LINES), max_length=8), tokenizer)["train"]
    assert len(rows) == len(pieces(tokenizer, LINES)["input_ids"])
    assert rows.features["input_ids"].feature.dtype.startswith("int")


def test_raw_text_keeps_its_order(tokenizer, tmp_path):
    file = write(tmp_path / "all.parquet", [{"text": f"film {i}"} for i in range(60)])

    def read(**given: int) -> tuple[str, str]:
        task = CausalLM(data=file, max_length=500, **given)
        rows = prepare_data(task, tokenizer)
        return tuple(
            "".join(tokenizer.decode(ids, skip_special_tokens=True) for ids in rows[split]["input_ids"])
            for split in ("train", "validation")
        )

    wanted = [" ".join(f"film {i}" for i in span) for span in (range(54), range(54, 60), range(7))]
    spaced = [tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in wanted]
    assert read() == (spaced[0], spaced[1])
    assert read(max_train_samples=7)[0] == spaced[2], "the first rows, not some of them"


def test_a_padded_vocabulary_is_trimmed(tokenizer):
    task = CausalLM(data="x")
    task.tokenizer = tokenizer
    logits = torch.zeros(2, 3, len(tokenizer) + 5)
    logits[..., -1] = 9.0
    selected = task.select_logits(logits, {})
    assert selected.shape == (2, 3, len(tokenizer)) and not selected.any()


def judged(task: CausalLM, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    metrics = task.metrics()
    for logits, labels in parts:
        task.update_metrics(metrics, logits, {"input_ids": labels, "labels": labels})
    return {name: float(value) for name, value in metrics.compute().items()}


def test_perplexity_and_accuracy_as_numpy_has_them(tokenizer):
    task, draw = CausalLM(data="x"), torch.Generator().manual_seed(0)
    task.tokenizer, size = tokenizer, len(tokenizer)
    parts = []
    for length in (5, 9, 1):
        labels = torch.randint(size, (4, length), generator=draw)
        labels[torch.rand(4, length, generator=draw) < 0.3] = IGNORED
        # So far apart that the probability of what is true may be too small for float32.
        parts.append((30 * torch.randn(4, length, size, generator=draw), labels))
    logits = np.concatenate([part.reshape(-1, size).double().numpy() for part, _ in parts])
    labels = np.concatenate([part.flatten().numpy() for _, part in parts])
    logits, labels = logits[labels != IGNORED], labels[labels != IGNORED]
    top = logits.max(-1, keepdims=True)
    losses = np.log(np.exp(logits - top).sum(-1)) + top[:, 0] - logits[np.arange(len(labels)), labels]
    assert np.float32(np.exp(-losses.max())) == 0
    measured = judged(task, parts)
    assert measured["perplexity"] == pytest.approx(np.exp(losses.mean()), rel=1e-4)
    assert measured["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean(), abs=1e-6)


def test_a_very_unlikely_token_leaves_perplexity_finite():
    metric = Perplexity()
    logits = torch.zeros(4, 3)
    logits[0, 1] = 200.0
    metric.update(logits, torch.zeros(4, dtype=torch.long))
    assert float(metric.compute()) == pytest.approx(np.exp((200 + 3 * np.log(3)) / 4), rel=1e-4)


def test_a_model_that_says_no_number_is_not_good(tokenizer):
    metric = Perplexity()
    for logits in (torch.zeros(2, 3), torch.full((2, 3), torch.nan)):
        metric.update(logits, torch.zeros(2, dtype=torch.long))
    assert metric.compute().isnan()


def test_a_batch_of_which_nothing_is_asked_counts_nothing(tokenizer):
    task = MaskedLM(data="x")
    task.tokenizer = tokenizer
    logits, labels = torch.randn(2, 4, len(tokenizer)), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    nothing = (torch.randn(2, 4, len(tokenizer)), torch.full((2, 4), IGNORED))
    assert judged(task, [nothing, (logits, labels), nothing]) == judged(task, [(logits, labels)])


@pytest.fixture(scope="module")
def masked(tokenizer, tmp_path_factory) -> tuple[MaskedLM, dict]:
    """The task, and its rows: many lines of one word."""
    lines = ["film music plot script bright dull"] * 900
    task = MaskedLM(data=texts(tmp_path_factory.mktemp("masked"), lines), max_length=64, mlm_probability=0.3)
    return task, prepare_data(task, tokenizer)


def test_hidden_tokens_are_drawn_as_published(masked, tokenizer):
    task, rows = masked
    before = torch.tensor(list(chain.from_iterable(rows["train"]["input_ids"])))
    drawn = [task.redraw(row, torch.Generator().manual_seed(i)) for i, row in enumerate(rows["train"])]
    seen, labels = (
        torch.tensor(list(chain.from_iterable(row[name] for row in drawn))) for name in ("input_ids", "labels")
    )
    special = torch.isin(before, torch.tensor(tokenizer.all_special_ids))
    mask = labels != IGNORED
    assert not mask[special].any() and torch.equal(seen[~mask], before[~mask])
    assert torch.equal(labels[mask], before[mask])
    count = int((~special).sum())
    assert count == 5400
    assert mask[~special].float().mean() == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / count) ** 0.5)
    hidden = seen[mask] == tokenizer.mask_token_id
    stays = seen[mask] == before[mask]
    for share, wanted in ((hidden, 0.8), (stays, 0.1), (~hidden & ~stays, 0.1)):
        assert share.float().mean() == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / int(mask.sum())) ** 0.5)
    assert len(seen[mask][~hidden & ~stays].unique()) > 50, "random words are any words"


def test_a_row_is_drawn_anew_in_each_epoch_and_only_then(masked):
    task, rows = masked
    train = rows["train"].remove_columns("length")

    def epoch(seed: int, number: int) -> list[dict]:
        order = LengthGroupedBatchSampler(rows["train"]["length"], 8, seed)
        order.set_epoch(number)
        drawn = AugmentedDataset(train, [task.redraw], order)
        return [drawn[i] for i in (5, 3, 40)]

    assert epoch(1, 2) == epoch(1, 2)
    assert epoch(1, 2) != epoch(1, 3) and epoch(1, 2) != epoch(2, 2)
    assert epoch(1, 2)[0]["labels"] != epoch(1, 2)[1]["labels"], "rows are not drawn alike"


def test_validation_is_the_same_in_every_epoch_and_run(masked, tokenizer):
    task, rows = masked
    again = prepare_data(MaskedLM(data=task.data, max_length=64, mlm_probability=0.3), tokenizer)["validation"]
    assert again.to_dict() == rows["validation"].to_dict()
    labels = list(chain.from_iterable(again["labels"]))
    assert 0.2 < sum(label != IGNORED for label in labels) / len(labels) < 0.4


@pytest.mark.parametrize("kind", [CausalLM, MaskedLM])
def test_what_raw_text_cannot_be(kind, tokenizer, tmp_path):
    empty = texts(tmp_path, ["", ""])
    for split in ("train", "validation"):
        assert f"{split}.parquet row 1: 'text' is empty, as in all rows" in refused(kind(data=empty), tokenizer)
    numbers = write(tmp_path / "numbers.parquet", [{"text": 1}, {"text": 2}])
    assert refused(kind(data=numbers), tokenizer) == "text: name the column of the text; there are text"
    message = f"data: {numbers} row 1: 'text' is 1, not a text; row 2: 'text' is 2, not a text"
    assert refused(kind(data=numbers, text="text"), tokenizer) == message
    written = write(tmp_path / "two.parquet", [{"title": "a", "body": "b"}] * 2)
    assert refused(kind(data=written), tokenizer) == "text: name the column of the text; there are title, body"
    assert (
        refused(kind(data=written, text="page"), tokenizer) == "text: there is no column 'page'; there are title, body"
    )
    assert refused(kind(data=written, text="body", max_length=2), tokenizer).startswith("max_length: 2 leaves no room")


def test_no_words_can_be_hidden_without_a_mask(tokenizer, tmp_path):
    data, tokenizer = texts(tmp_path, LINES), deepcopy(tokenizer)
    tokenizer.mask_token = None
    message = "name: the tokenizer has no mask token; use causal_lm for such a model"
    assert refused(MaskedLM(data=data), tokenizer) == message
    prepare_data(CausalLM(data=data), tokenizer)


@pytest.mark.parametrize("share", [0, 1.5, -1])
def test_mlm_probability_is_a_probability(share):
    with pytest.raises(ValueError, match=r"mlm_probability: must lie in \(0, 1\]"):
        MaskedLM(data="x", mlm_probability=share)
