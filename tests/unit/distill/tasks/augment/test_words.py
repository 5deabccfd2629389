"""Words in the place of words: the nearest by cosine, whole words alone, a function of the generator."""

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from distill.tasks.augment.words import WordReplacement
from tests.helpers.repositories import BAD, GOOD, NOUNS, OTHER, save_tiny_bert

WORDS = GOOD + BAD + NOUNS + [word for word in OTHER if len(word) > 1]
TEXT = "a charming film with zx warm music"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    save_tiny_bert(folder, layers=1, hidden=32, heads=4)
    return str(folder)


def ready(folder: str, **given) -> tuple[WordReplacement, object]:
    step, tokenizer = WordReplacement(model=folder, **given), AutoTokenizer.from_pretrained(folder)
    step.setup(tokenizer)
    return step, tokenizer


def test_neighbours_are_the_nearest_by_cosine(folder):
    step, tokenizer = ready(folder, candidates=4)
    table = AutoModel.from_pretrained(folder).get_input_embeddings().weight.detach().double()
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in WORDS}
    for word in ("film", "charming", "the"):
        cosine = {w: float(torch.cosine_similarity(table[i], table[ids[word]], dim=0)) for w, i in ids.items()}
        wanted = sorted(cosine, key=lambda w: -cosine[w])[1:5]
        assert tokenizer.convert_ids_to_tokens(step.nearest_words(ids[word])) == wanted


def test_words_of_one_token_are_replaced_with_their_share_and_nothing_else(folder):
    step, tokenizer = ready(folder, probability=0.4, candidates=3)
    row = dict(tokenizer(TEXT)) | {"labels": 1}
    pieces = tokenizer.convert_ids_to_tokens(row["input_ids"])
    rows = [step.apply(row, torch.Generator().manual_seed(i))["input_ids"] for i in range(300)]
    for place, piece in enumerate(pieces):
        changed = [ids[place] for ids in rows if ids[place] != row["input_ids"][place]]
        if piece in WORDS:
            assert len(changed) / 300 == pytest.approx(0.4, abs=0.08), piece
            assert set(changed) == set(step.nearest_words(row["input_ids"][place])), "each of the candidates"
        else:
            assert not changed, f"{piece} is special, a letter, or a part of a word"
    assert "z" in pieces and "##x" in pieces and row["input_ids"] == tokenizer(TEXT)["input_ids"]


def test_a_word_that_goes_on_stays(folder):
    step, tokenizer = ready(folder, probability=1.0)
    row = {"input_ids": tokenizer.convert_tokens_to_ids(["[CLS]", "film", "##s", "film", "[SEP]"])}
    tokens = step.apply(row, torch.Generator().manual_seed(0))["input_ids"]
    assert tokens[:3] == row["input_ids"][:3] and tokens[3] != row["input_ids"][3]


def test_the_same_generator_gives_the_same_row(folder):
    step, tokenizer = ready(folder)
    row = dict(tokenizer(TEXT))
    first, same, other = (step.apply(row, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first == same != other


def test_what_cannot_be_is_told(folder, tmp_path):
    with pytest.raises(ValueError, match="candidates: must be at least 1, not 0"):
        WordReplacement(model=folder, candidates=0)
    with pytest.raises(ValueError, match="probability: must lie in"):
        WordReplacement(model=folder, probability=1.5)
    with pytest.raises(ValueError, match="model: there is no folder"):
        WordReplacement(model="/nowhere").setup(AutoTokenizer.from_pretrained(folder))
    with pytest.raises(ValueError, match="augment: candidates: the tokenizer has only .* words of one token"):
        ready(folder, candidates=999)
    save_tiny_bert(tmp_path, layers=1, hidden=32, heads=4)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["more"])
    with pytest.raises(ValueError, match="has another vocabulary than the teacher and the student"):
        WordReplacement(model=str(tmp_path)).setup(tokenizer)
