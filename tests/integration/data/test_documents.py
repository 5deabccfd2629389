"""Documents of raw text: where they begin and end, that none is seen from another, and the perplexity of them."""

from itertools import chain
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from distill.data import prepare_data
from distill.data.batches import Collator
from distill.evaluation.measure import evaluate_model, torch_predict
from distill.tasks.kinds.language.causal import CausalLM
from distill.tasks.kinds.language.masked import MaskedLM
from students.recording.sparse_lm_head import IGNORED
from tests.helpers.tables import refused, write

STORIES = Path("../shared/models/stories260k-llama")
LINES = ["the good film", "", "a warm, very warm ending", "x" * 40, "it is one dull plot", "  ", "a film"]
BEGIN, END = 2, 3  # [CLS] and [SEP] of the tokenizer, which only begins a text


@pytest.fixture
def begins(tokenizer) -> PreTrainedTokenizerBase:
    """Puts a token before a text and none after it, as Llama's does; its end token is [SEP]."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [CLS] $B", special_tokens=[("[CLS]", BEGIN)]
    )
    tokenizer.eos_token = "[SEP]"
    return tokenizer


def ready(folder: Path, tokenizer: PreTrainedTokenizerBase, rows: list[dict], length: int, **given: object) -> tuple:
    """The task, and the pieces of ``rows`` in their order."""
    for split in ("train", "validation"):
        write(folder / f"{split}.parquet", rows)
    task = CausalLM(data=str(folder), max_length=length, **given)
    return task, list(prepare_data(task, tokenizer)["train"].remove_columns("length"))


def plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def predicted(rows: list[dict]) -> list[int]:
    return [label for row in rows for label in row["labels"] if label != IGNORED]


@pytest.mark.parametrize("length", [2, 3, 8, 500])
def test_a_file_is_one_document_with_one_beginning_and_one_end(begins, tmp_path, length):
    _, rows = ready(tmp_path, begins, [{"text": line} for line in LINES], length)
    document = [BEGIN, *plain(begins, "\n".join(LINES)), END]
    assert rows[0]["input_ids"][0] == BEGIN
    assert predicted(rows) == document[1:], "each token but the first is asked for, once"
    for row in rows:
        assert row["labels"] == [*row["input_ids"][1:], IGNORED] and len(row["input_ids"]) <= length
        assert row["attention_mask"] == [1] * len(row["input_ids"])
    assert sum(row["input_ids"].count(BEGIN) for row in rows) == 1


@pytest.mark.parametrize("length", [3, 8, 500])
def test_a_row_is_a_document_if_it_is_said(begins, tmp_path, length):
    task, rows = ready(tmp_path, begins, [{"text": line} for line in LINES], length, document="row")
    texts = [[BEGIN, *plain(begins, line), END] for line in LINES if line.strip()]
    assert predicted(rows) == list(chain.from_iterable(text[1:] for text in texts))
    assert [row["input_ids"][0] for row in rows].count(BEGIN) == len(texts)
    assert all(BEGIN not in row["input_ids"][1:] and END not in row["input_ids"][:-1] for row in rows)
    assert task.notes == ["7 documents in 7 rows"]


def test_a_column_tells_documents_apart(begins, tmp_path):
    table = [{"text": f"film {i}\n", "page": ["b", "a", "b"][i // 2]} for i in range(6)]
    _, rows = ready(tmp_path, begins, table, 500, document="page")
    assert [row["input_ids"] for row in rows] == [
        [BEGIN, *plain(begins, f"film {i} film {i + 1}"), END] for i in (0, 2, 4)
    ]


def test_masked_pieces_have_special_tokens_each_and_stay_in_their_document(tokenizer, tmp_path):
    file = write(tmp_path / "train.parquet", [{"text": "a warm film " * 3}, {"text": "one plot"}])
    task = MaskedLM(data=file, max_length=7, document="row")
    table = Dataset.from_parquet(file)
    task.setup(table, tokenizer)
    pieces = task.encode(task.mark_documents(table)[:])["input_ids"]
    words = [plain(tokenizer, text) for text in ("a warm film a warm", "film a warm film", "one plot")]
    assert pieces == [[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id] for ids in words]


def test_what_a_text_or_tokenizer_has_already_is_not_put_twice(begins, tokenizer, tmp_path):
    _, rows = ready(tmp_path, begins, [{"text": "[CLS] a film [SEP]"}, {"text": "one plot"}], 500, document="row")
    assert rows[0]["input_ids"] == [BEGIN, *plain(begins, "a film"), END]
    _, rows = ready(tmp_path, tokenizer, [{"text": "a film"}] * 2, 500, document="row")
    assert rows[0]["input_ids"] == tokenizer("a film")["input_ids"], "BERT's own ends a text itself"


def test_a_tokenizer_without_an_end_says_so(begins, tmp_path):
    begins.eos_token = begins.sep_token = None
    task, rows = ready(tmp_path, begins, [{"text": "a film"}] * 2, 500)
    assert predicted(rows) == plain(begins, "a film a film")
    assert "the tokenizer has no end token, so models do not learn where a document ends" in task.notes


def test_a_file_beyond_a_block_of_rows_begins_once(begins, tmp_path):
    _, rows = ready(tmp_path, begins, [{"text": "a film"}] * 2500, 50)
    assert sum(row["input_ids"].count(BEGIN) for row in rows) == 1
    assert sum(row["labels"].count(END) for row in rows) == 1


def test_the_part_held_out_of_a_file_does_not_begin_it(begins, tmp_path):
    file = write(tmp_path / "all.parquet", [{"text": f"film {i}"} for i in range(60)])
    rows = prepare_data(CausalLM(data=file, max_length=500), begins)
    assert rows["train"]["input_ids"][0][0] == BEGIN and rows["validation"]["input_ids"][0][0] != BEGIN
    assert rows["train"]["input_ids"][0][-1] != END and rows["validation"]["input_ids"][0][-1] == END


def test_whole_texts_that_are_joined_are_noticed(begins, tmp_path):
    task, _ = ready(tmp_path, begins, [{"text": "a film\nit is dull"}] * 3, 50)
    assert any("though most contain line breaks" in note and "document: row" in note for note in task.notes)
    task, _ = ready(tmp_path, begins, [{"text": "a film\n"}] * 3, 50)
    assert not any("though most" in note for note in task.notes)


def perplexity(model, documents: list[list[int]], length: int) -> float:
    """By hand, in float64: each token after those before it in its piece."""
    model, losses = model.double().eval(), []
    for document in documents:
        for start in range(0, len(document) - 1, length - 1):
            ids = torch.tensor(document[start : start + length])
            log_p = model(input_ids=ids[None]).logits[0].log_softmax(-1)
            losses += [-log_p[i, token] for i, token in enumerate(ids[1:].tolist())]
    return float(torch.stack(losses).mean().exp())


@pytest.mark.parametrize(("length", "document"), [(64, None), (16, "row"), (500, "row"), (24, "page")])
def test_perplexity_is_that_of_documents_by_hand(begins, tmp_path, length, document):
    table = [{"text": f"{word} film, one {word} plot", "page": i // 3} for i, word in enumerate(["warm", "dull"] * 6)]
    task, _ = ready(tmp_path, begins, table, length, document=document, text="text")
    rows = prepare_data(task, begins)["validation"].remove_columns("length")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(begins), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    collate = Collator(begins)
    batches = [collate([rows[j] for j in range(i, min(i + 4, len(rows)))]) for i in range(0, len(rows), 4)]
    measured = evaluate_model(task, torch_predict(model), batches).metrics["perplexity"]
    size = {None: 12, "row": 1, "page": 3}[document]
    texts = ["\n".join(row["text"] for row in table[i : i + size]) for i in range(0, 12, size)]
    documents = [[BEGIN, *plain(begins, text), END] for text in texts]
    with torch.no_grad():
        assert measured == pytest.approx(perplexity(model, documents, length), rel=1e-5)


@pytest.mark.skipif(not STORIES.is_dir(), reason="the shared model is not here")
def test_the_shared_model_is_judged_without_beginnings_in_mid_document(tmp_path):
    tokenizer, file = AutoTokenizer.from_pretrained(STORIES), "../shared/data/tinystories_sample/test.parquet"
    task = CausalLM(data=file, max_length=64)
    rows = prepare_data(task, tokenizer)["validation"].remove_columns("length")
    model, collate = AutoModelForCausalLM.from_pretrained(STORIES), Collator(tokenizer)
    batches = [collate([rows[j] for j in range(i, min(i + 32, len(rows)))]) for i in range(0, len(rows), 32)]
    measured = evaluate_model(task, torch_predict(model), batches).metrics["perplexity"]
    text = "\n".join(row["text"] for row in task.validation)
    document = [*tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        assert measured == pytest.approx(perplexity(model, [document], 64), rel=1e-5)
    assert measured == pytest.approx(6.19, abs=0.01), "9.47 with a beginning before each piece"


@pytest.mark.parametrize("kind", [CausalLM, MaskedLM])
def test_documents_that_cannot_be(kind, tokenizer, tmp_path):
    file = write(tmp_path / "x.jsonl", [{"text": "a film", "page": 1}, {"text": "b", "page": None}] * 2)
    assert refused(kind(data=file, document="site"), tokenizer) == (
        "document: there is no column 'site'; there are text, page"
    )
    assert refused(kind(data=file, document="page"), tokenizer).endswith("x.jsonl line 2, 4: 'page' is missing")
    for split, text in (("train", "a film"), ("validation", "   ")):
        write(tmp_path / f"{split}.jsonl", [{"text": text}] * 2)
    assert refused(kind(data=str(tmp_path)), tokenizer) == (
        "data: the validation text has no token to predict, so there is nothing to evaluate on"
    )


def test_one_token_leaves_none_to_predict(begins, tmp_path):
    begins.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    file = write(tmp_path / "x.jsonl", [{"text": "a film"}] * 2)
    assert refused(CausalLM(data=file, max_length=1), begins) == "max_length: 1 leaves no token to predict"


def test_of_a_piece_at_least_one_token_is_hidden(tokenizer, tmp_path):
    file = write(tmp_path / "x.jsonl", [{"text": "warm"}, {"text": "dull film"}] * 10)
    task = MaskedLM(data=file, document="row", mlm_probability=0.01)
    rows = prepare_data(task, tokenizer)
    for row in [*rows["validation"], *(task.redraw(row, torch.Generator().manual_seed(1)) for row in rows["train"])]:
        targets = [label for label in row["labels"] if label != IGNORED]
        assert len(targets) == 1 and targets[0] not in tokenizer.all_special_ids
