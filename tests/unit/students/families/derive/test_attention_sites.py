"""Attention that is found by watching a tiny model: where it is, in which layers, with how many heads."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from losses.pairs.attention import AttentionKL
from students.families.families import attention_layers, family, is_watched, num_heads
from students.recording.signals import Signals
from students.recording.trace import Recorder
from tests.helpers.families import everything
from tests.helpers.students.derived import DECODER, ENCODER, EXPERTS, SIZES, texts

LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
HYBRIDS = {
    "jamba": DECODER | {"attn_layer_period": 3, "attn_layer_offset": 1, "num_experts": 1, "mamba_d_state": 4},
    "qwen3_next": DECODER | EXPERTS | LINEAR | {"head_dim": 8, "shared_expert_intermediate_size": 32},
    "recurrent_gemma": DECODER | {"head_dim": 8, "lru_width": 32, "attention_window_size": 64},
    "minimax": DECODER | {"num_local_experts": 2, "head_dim": 8},
}
HAVING = {"jamba": [2, 5], "qwen3_next": [4], "recurrent_gemma": [3, 6], "minimax": [1, 3, 5]}
OWN_CODE = ("deberta", "gpt_neo", "gptj", "layoutlm", "megatron-bert", "rembert", "roformer", "tapas", "xglm", "git")


def hybrid(name: str, **changes: object) -> PretrainedConfig:
    config = AutoConfig.for_model(name, **(SIZES | {"num_hidden_layers": 6} | HYBRIDS[name] | changes))
    config.num_labels = 3
    return config


def random_model(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("name", ["jamba", "qwen3_next", "minimax"])
def test_a_hybrid_is_recorded_in_the_layers_that_have_attention(name: str) -> None:
    model = random_model(hybrid(name))
    assert family(model.config).level == "attention"
    (stack,) = family(model.config).stacks
    assert attention_layers(model.config, stack) == HAVING[name]
    trace = Recorder(model).trace(texts(), everything(model.config))
    assert [layer for _, layer in trace.attention] == HAVING[name]
    model.set_attn_implementation("eager")
    with torch.no_grad():
        own = model.base_model(**texts(), output_attentions=True, use_cache=False).attentions
    own = [weights for weights in own if weights is not None and weights.shape[-2:] == (9, 9)]
    rows = texts()["attention_mask"].bool()
    for attention, weights in zip(trace.attention.values(), own[: len(HAVING[name])], strict=True):
        actual = attention.probabilities().transpose(1, 2)[rows]
        torch.testing.assert_close(actual, weights.transpose(1, 2)[rows], atol=1e-6, rtol=1e-5)


def test_the_layers_of_a_hybrid_without_a_head_are_those_of_its_modules() -> None:
    """RecurrentGemma returns no weights: what one text attends to may not depend on the other."""
    config = AutoConfig.for_model("recurrent_gemma", **(SIZES | {"num_hidden_layers": 6} | HYBRIDS["recurrent_gemma"]))
    assert family(config).level == "attention"
    assert attention_layers(config, "decoder") == HAVING["recurrent_gemma"]


def test_a_rule_pairs_the_layers_that_have_attention() -> None:
    student, teacher = hybrid("jamba"), hybrid("jamba", num_hidden_layers=12)
    loss = AttentionKL(layers="uniform")
    with pytest.raises(ValueError, match="^attention: the decoder of a jamba has it in layers 2, 5, not 3$"):
        AttentionKL(layers={3: 2}).setup(student, teacher)
    loss.setup(student, teacher)
    (stack,) = family(student).stacks
    assert loss.student_signals == Signals(attention=frozenset({(stack, 2), (stack, 5)}))
    assert loss.teacher_signals == Signals(attention=frozenset({(stack, 5), (stack, 11)}))
    assert loss.pairing.pairs == [(2, 5), (5, 11)]


@pytest.mark.parametrize("name", OWN_CODE)
def test_attention_in_code_of_its_own_is_found(name: str) -> None:
    config = AutoConfig.for_model(name)
    assert family(config).level in ("attention", "structure") and is_watched(config)
    (stack,) = family(config).stacks.values()
    assert not stack.attention["self"].layers


def test_a_decoder_that_stands_alone_only_under_its_head_is_found() -> None:
    """TrOCR's: transformers has no model of its config without the head."""
    assert family(AutoConfig.for_model("trocr")).level == "structure"


def test_blocks_that_return_a_list_hand_their_hidden_states_on() -> None:
    """Those of OpenAI's first GPT."""
    config = AutoConfig.for_model("openai-gpt", vocab_size=100, n_embd=32, n_layer=3, n_head=4, num_labels=3)
    config.pad_token_id = 0
    model = random_model(config)
    trace = Recorder(model).trace(texts(), everything(config))
    with torch.no_grad():
        own = model.base_model(**texts(), output_hidden_states=True, output_attentions=True)
    for layer in (1, 2, 3):
        torch.testing.assert_close(trace.hidden["decoder", layer], own.hidden_states[layer])
        rows = texts()["attention_mask"].bool()
        weights = trace.attention["decoder", layer].probabilities().transpose(1, 2)[rows]
        torch.testing.assert_close(weights, own.attentions[layer - 1].transpose(1, 2)[rows], atol=1e-6, rtol=1e-5)


def test_a_head_that_multiplies_two_values_has_both_and_no_head_can_be_cut() -> None:
    """DiffLlama's attention calls twice with the same query; its heads belong together in pairs."""
    config = AutoConfig.for_model("diffllama", **(SIZES | DECODER))
    assert family(config).level == "attention"
    model = random_model(config)
    (attention,) = Recorder(model).trace(texts(), Signals(attention=frozenset({("decoder", 2)}))).attention.values()
    assert (attention.query.shape[-1], attention.value.shape[-1]) == (8, 16)
    with torch.no_grad():
        own = model.base_model(**texts(), output_attentions=True, use_cache=False).attentions[1]
    rows = texts()["attention_mask"].bool()
    weights = attention.probabilities().transpose(1, 2)[rows]
    torch.testing.assert_close(weights, own.transpose(1, 2)[rows], atol=1e-6, rtol=1e-5)


def test_a_model_whose_heads_are_fewer_than_its_config_says() -> None:
    config = AutoConfig.for_model("convbert", **(SIZES | ENCODER | {"num_attention_heads": 4, "embedding_size": 32}))
    model = random_model(config)
    (attention,) = Recorder(model).trace(texts(), Signals(attention=frozenset({("encoder", 1)}))).attention.values()
    assert attention.query.shape[1] == num_heads(config) == 2


@pytest.mark.parametrize("name", ["big_bird", "nystromformer", "longformer", "rwkv"])
def test_what_cannot_be_recorded_exactly_is_not_counted(name: str) -> None:
    """Modules that are replaced, an approximation, windows in chunks, no attention at all."""
    assert family(AutoConfig.for_model(name)).level == "hidden"
