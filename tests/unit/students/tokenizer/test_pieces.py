"""Smaller tokenizers spell text of kept tokens as before, and all other text somehow."""

import json
import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AlbertTokenizer,
    AutoTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    T5Tokenizer,
)

from students.tokenizer.pieces import rebuild_tokenizer, required_ids
from tests.helpers.repositories import BAD, GOOD, NOUNS, OTHER, sentences

SHARED = Path(__file__).parents[5] / "shared" / "models"
REAL = ("tokenizers/bert-uncased-wordpiece", "tokenizers/gpt2-bpe", "stories260k-llama")
WORDS = [*GOOD, *BAD, *NOUNS, *OTHER, "actors", "filmed", "unlovely", "scripted", "café", "naïve"]
STRANGE = ["zyx wvut", "a café in Zürich, 3.50 €", "plottest unwarmer!"]


def texts(seed: int, count: int = 200) -> list[str]:
    """Words in no order, of which any tokenizer below makes all sorts of pieces."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in range(count)]


def wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(strip_accents=False), pre_tokenizers.Whitespace()
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    made.train_from_iterator(texts(0), trainers.WordPieceTrainer(vocab_size=150, special_tokens=special))
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.decoder = decoders.WordPiece()
    made.enable_padding(pad_id=1, pad_token="[PAD]")
    return made


def byte_level() -> Tokenizer:
    """With its special tokens at the end, as GPT-2's, and one that is in no file but its own list."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(texts(0), trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    made.add_special_tokens(["<s>", "</s>", "<pad>"])
    ids = [(token, made.token_to_id(token)) for token in ("<s>", "</s>")]
    template = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=ids)
    made.post_processor = processors.Sequence([processors.ByteLevel(), template])
    return made


def roberta() -> Tokenizer:
    made = byte_level()
    ids = {token: made.token_to_id(token) for token in ("<s>", "</s>")}
    made.post_processor = processors.RobertaProcessing(("</s>", ids["</s>"]), ("<s>", ids["<s>"]))
    return made


def byte_fallback() -> Tokenizer:
    """As Llama's: characters that are no tokens become tokens of bytes."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    plain = [text.replace("é", "e").replace("ï", "i") for text in texts(0)]
    made.train_from_iterator(plain, trainers.BpeTrainer(vocab_size=400, special_tokens=special))
    state = json.loads(made.to_str())
    state["added_tokens"] = state["added_tokens"][:3]  # bytes are pieces like others
    made = Tokenizer.from_str(json.dumps(state))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def unigram(special: tuple[str, ...] = ("<pad>", "</s>", "<unk>")) -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    given = {"special_tokens": list(special), "unk_token": "<unk>", "show_progress": False}
    made.train_from_iterator(texts(0), trainers.UnigramTrainer(vocab_size=150, **given))
    end = special[1]
    made.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 1)])
    return made


def albert() -> Tokenizer:
    return unigram(("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"))


MADE = {make.__name__: make for make in (wordpiece, byte_level, roberta, byte_fallback, unigram)}


@pytest.fixture(params=[*MADE, *REAL], scope="module")
def tokenizer(request) -> PreTrainedTokenizerBase:
    if request.param in REAL:
        if not SHARED.exists():
            pytest.skip("the shared models are not here")
        return AutoTokenizer.from_pretrained(SHARED / request.param)
    return PreTrainedTokenizerFast(tokenizer_object=MADE[request.param]())


def of_texts(tokenizer: PreTrainedTokenizerBase, given: list[str]) -> PreTrainedTokenizerBase:
    seen = {i for ids in tokenizer(given)["input_ids"] for i in ids}
    return rebuild_tokenizer(tokenizer, required_ids(tokenizer, seen))


def pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


@pytest.mark.parametrize("seed", range(3))
def test_texts_seen_are_spelled_as_before(tokenizer, seed):
    given = texts(seed, count=4) + [row["sentence"] for row in sentences(3, seed)] + ["naïve café"] * (seed % 2)
    reduced = of_texts(tokenizer, given)
    assert len(reduced) < len(tokenizer)
    for text in given:
        assert pieces(reduced, text) == pieces(tokenizer, text)
    assert reduced(given[0], given[1])["input_ids"] == reduced.convert_tokens_to_ids(
        tokenizer.convert_ids_to_tokens(tokenizer(given[0], given[1])["input_ids"])
    )


def test_other_texts_lose_nothing(tokenizer):
    reduced = of_texts(tokenizer, ["a great film"])
    for text in STRANGE + texts(9, count=20):
        before, after = (
            tok.decode(tok(text)["input_ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for tok in (tokenizer, reduced)
        )
        assert after == before
        assert pieces(reduced, text).count(reduced.unk_token) <= pieces(tokenizer, text).count(tokenizer.unk_token)


def test_ids_are_counted_anew_in_their_order(tokenizer):
    reduced = of_texts(tokenizer, texts(0, count=5))
    order = [piece for piece, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
    vocab = reduced.get_vocab()
    tokens = [piece for piece in order if piece in vocab]
    assert reduced.convert_tokens_to_ids(tokens) == list(range(len(reduced)))
    assert reduced.all_special_tokens == tokenizer.all_special_tokens
    for name in ("pad", "unk", "cls", "sep", "bos", "eos"):
        assert getattr(reduced, f"{name}_token") == getattr(tokenizer, f"{name}_token")


def test_keeping_all_changes_nothing(tokenizer):
    reduced = rebuild_tokenizer(tokenizer, required_ids(tokenizer, range(len(tokenizer))))
    assert json.loads(reduced.backend_tokenizer.to_str()) == json.loads(tokenizer.backend_tokenizer.to_str())


def test_padding_is_told_the_new_number():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=wordpiece())
    reduced = rebuild_tokenizer(tokenizer, required_ids(tokenizer, []))
    assert json.loads(reduced.backend_tokenizer.to_str())["padding"]["pad_id"] == reduced.convert_tokens_to_ids("[PAD]")


def test_the_way_to_a_token_stays_and_no_other_merge():
    """Of ab, abc and cd, for abc: a + b, ab + c."""
    vocab = {piece: i for i, piece in enumerate(["a", "b", "c", "d", "ab", "cd", "abc", "abcd"])}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[("a", "b"), ("ab", "c"), ("c", "d"), ("ab", "cd")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    assert required_ids(tokenizer, [6]) == [0, 1, 2, 3, 4, 6]
    assert pieces(rebuild_tokenizer(tokenizer, [0, 1, 2, 3, 4, 6]), "abcd") == ["abc", "d"]


def test_the_unlikeliest_piece_stays_for_the_score_of_unknown_characters():
    scores = [("<unk>", 0.0), ("a", -1.0), ("b", -2.0), ("ab", -3.0), ("xx", -9.0)]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram(scores, unk_id=0)))
    assert required_ids(tokenizer, []) == [0, 1, 2, 4]


FAMILIES = {
    RobertaTokenizer: roberta,
    GPT2Tokenizer: byte_level,
    LlamaTokenizer: byte_fallback,
    T5Tokenizer: unigram,
    AlbertTokenizer: albert,
}


@pytest.mark.parametrize("kind, make", FAMILIES.items(), ids=lambda value: value.__name__)
def test_the_tokenizers_of_families_are_read_back_as_they_were_judged(kind, make, tmp_path):
    """Their classes make much of a tokenizer anew when its files are read."""
    state = json.loads(make().to_str())["model"]
    if state["type"] == "BPE":
        tokenizer = kind(vocab=state["vocab"], merges=[tuple(pair) for pair in state["merges"]])
    else:
        tokenizer = kind(vocab=[tuple(scored) for scored in state["vocab"]])
    given = texts(3, count=5)
    reduced = of_texts(tokenizer, given)
    reduced.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is type(reduced) and len(again) < len(tokenizer)
    for text in given + STRANGE:
        assert pieces(again, text) == pieces(reduced, text)
    for text in given:
        assert pieces(again, text) == pieces(tokenizer, text)
        assert again(text)["input_ids"][-1] == again.convert_tokens_to_ids(pieces(tokenizer, text)[-1])


class TestRefused:
    def test_whole_words(self):
        made = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
        with pytest.raises(ValueError, match="a WordLevel tokenizer has no smaller pieces"):
            required_ids(PreTrainedTokenizerFast(tokenizer_object=made), [0])

    def test_marked_pieces(self):
        made = Tokenizer(models.BPE({"a": 0, "b</w>": 1}, [], end_of_word_suffix="</w>"))
        with pytest.raises(ValueError, match="marks the beginning or end of words"):
            required_ids(PreTrainedTokenizerFast(tokenizer_object=made), [0])
