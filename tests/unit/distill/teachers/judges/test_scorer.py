"""The log-probabilities of words after prompts, against the model run plainly on one text after the other."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, PretrainedConfig

from distill.teachers.judges.prompt import Prompt
from distill.teachers.judges.scorer import Scorer
from tests.helpers.repositories import save_tokenizer

PROMPT = Prompt("the film: {text}. it is")
WORDS = ["bad", "clever", "very warm"]
TEXTS = ["dull", "a moving and lovely script", "one of the messy films, it is not great"]


def configs(size: int) -> list[PretrainedConfig]:
    return [
        GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=96),
        LlamaConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=96,
        ),
    ]


@pytest.fixture(params=[0, 1], ids=["gpt2", "llama"])
def scorer(request: pytest.FixtureRequest, tmp_path: Path) -> Scorer:
    size = save_tokenizer(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(configs(size)[request.param])
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return Scorer(model, AutoTokenizer.from_pretrained(tmp_path), PROMPT, WORDS)


def plain(scorer: Scorer, prompt: list[int], word: list[int]) -> float:
    """The sum of the log-probabilities of a word's tokens, in float64, of the whole text at once."""
    model = scorer.model.double()
    with torch.no_grad():
        log_probs = model(input_ids=torch.tensor([prompt + word])).logits[0].log_softmax(-1)
    scorer.model.float()
    return float(sum(log_probs[len(prompt) - 1 + i, token] for i, token in enumerate(word)))


def prompts(scorer: Scorer) -> list[list[int]]:
    return [scorer.prompt_tokens({"sentence": text}) for text in TEXTS]


def test_it_is_what_the_whole_text_has(scorer: Scorer) -> None:
    found = scorer.log_probs(prompts(scorer))
    expected = torch.tensor([[plain(scorer, prompt, word) for word in scorer.words] for prompt in prompts(scorer)])
    assert [len(word) for word in scorer.words] == [3, 1, 2]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_neither_the_batch_nor_padding_changes_it(scorer: Scorer) -> None:
    together = scorer.log_probs(prompts(scorer))
    alone: Tensor = torch.cat([scorer.log_probs([prompt]) for prompt in prompts(scorer)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_a_long_text_loses_its_end_and_the_prompt_nothing(scorer: Scorer) -> None:
    ids = scorer.prompt_tokens({"sentence": "a dull film and " * 40})
    ending = scorer.tokenizer(". it is", add_special_tokens=False)["input_ids"]
    assert 80 < len(ids) <= scorer.max_tokens == 93 and ids[-len(ending) :] == ending
    assert scorer.num_cut == 1


def test_a_prompt_that_is_too_long_by_itself_is_refused(scorer: Scorer) -> None:
    scorer.prompt = Prompt("the film " * 60 + "{text}")
    with pytest.raises(ValueError, match=r"^prompt: has 121 tokens without a text, and the model reads 93"):
        scorer.prompt_tokens({"sentence": "dull"})


@pytest.mark.parametrize("words", [["warm", "warm film"], ["film", "film"]])
def test_words_that_begin_alike_are_refused(scorer: Scorer, words: list[str]) -> None:
    if words[0] != words[1]:
        with pytest.raises(ValueError, match=r"^labels: the tokens of 'warm film' begin with those of 'warm'"):
            Scorer(scorer.model, scorer.tokenizer, PROMPT, words)


def test_a_word_goes_on_from_the_prompt_as_in_a_text() -> None:
    """A tokenizer that marks spaces gives the word after a space, and after a line break the word alone."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bytes_of = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {piece: i for i, piece in enumerate([*bytes_of, "Ġn", "Ġno", "no"])}
    backend = Tokenizer(models.BPE(vocabulary, [("Ġ", "n"), ("Ġn", "o"), ("n", "o")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64)
    model = AutoModelForCausalLM.from_config(configs(len(vocabulary))[0])
    spaced = Scorer(model, tokenizer, Prompt("{text}: "), ["no", "yes"])
    lines = Scorer(model, tokenizer, Prompt("{text}\n"), ["no", "yes"])
    assert spaced.words[0] == [vocabulary["Ġno"]] and lines.words[0] == [vocabulary["no"]]
