"""What is derived of a family is what the table says of it, and what the model itself records."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from students.families.derive import probe
from students.families.derive.family import derive_family
from students.families.families import depth, family, find_stack, require
from students.kinds.transformer import Transformer
from students.recording.signals import Signals
from students.recording.trace import Recorder
from students.structure.places import select_modules
from tests.helpers.families import FAMILIES, HEIRS, LLAMAS, everything, tiny_config
from tests.helpers.students.derived import DERIVED, HIDDEN, STRUCTURE, config_of, model_of, texts


@pytest.mark.parametrize("name", [name for name in (*FAMILIES, *LLAMAS, *HEIRS) if name not in ("albert", "gemma2")])
def test_the_derived_facts_are_those_of_the_table(name: str) -> None:
    config = tiny_config(name)
    known, derived = family(config), derive_family(config)
    assert derived.level == "structure"
    assert derived.head_size in (known.head_size, "head_dim") and derived.has_fixed_heads == known.has_fixed_heads
    assert list(derived.stacks) == list(known.stacks)
    for stack, facts in known.stacks.items():
        found = derived.stacks[stack]
        assert found.blocks == facts.blocks
        assert getattr(config, found.depth) == depth(config, stack)
        assert getattr(config, found.heads) == getattr(config, facts.heads)
        assert getattr(config, found.intermediate) == getattr(config, facts.intermediate)
        assert set(found.ffn.inner) <= set(facts.ffn.inner) and found.ffn.outer == facts.ffn.outer
        for kind, parts in facts.attention.items():
            names = ("module", "queries", "keys", "output", "head_dim")
            assert [getattr(found.attention[kind], key) for key in names] == [getattr(parts, key) for key in names]


@pytest.mark.parametrize("name", DERIVED)
def test_a_family_has_its_level(name: str) -> None:
    assert family(config_of(name)).level == ("structure" if name in STRUCTURE else "hidden")


@pytest.mark.parametrize("name", DERIVED)
def test_what_is_recorded_is_what_the_model_says_itself(name: str) -> None:
    """Hidden states and weights of attention, of a padded batch, to 1e-6 of those without a fused kernel."""
    model, batch = model_of(name), texts()
    model.set_attn_implementation("eager")
    wanted = {"output_hidden_states": True, "output_attentions": name not in HIDDEN, "use_cache": False}
    with torch.no_grad():
        own = model.base_model(**batch, **wanted, **_decoder(model, batch))
        recorder = Recorder(model)
        trace = recorder.trace(batch | _decoder(model, batch), everything(model.config))
    stacks = list(family(model.config).stacks)
    for stack in stacks:
        states = own.hidden_states if len(stacks) == 1 else own[f"{stack}_hidden_states"]
        states = [state.transpose(0, 1) if state.shape[0] != 2 else state for state in states]  # XLNet's begin with S
        for layer in range(depth(model.config, stack)):  # the last one may be after a norm
            torch.testing.assert_close(trace.hidden[stack, layer], states[layer], rtol=1e-5, atol=2e-5)
    for (kind, layer), attention in trace.attention.items():
        weights = own.attentions if len(stacks) == 1 else own[f"{kind}_attentions"]
        real = texts()["attention_mask"].bool()
        torch.testing.assert_close(
            attention.probabilities().transpose(1, 2)[real], weights[layer - 1].transpose(1, 2)[real]
        )


def _decoder(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    if not model.config.is_encoder_decoder:
        return {}
    return {"decoder_input_ids": batch["input_ids"], "decoder_attention_mask": batch["attention_mask"]}


@pytest.mark.parametrize("name", DERIVED)
def test_a_student_takes_over_every_other_block(name: str, tmp_path: Path) -> None:
    """It is a stock model: saved and loaded, it gives the same logits; its blocks run as the teacher's do."""
    teacher = model_of(name)
    student = Transformer(layers=2, teacher_layers=[1, 3]).build(teacher, None, None, None).eval()
    stack = list(family(teacher.config).stacks)[-1]
    path = find_stack(teacher.config, stack)[1].blocks
    sources, taken = (model.base_model.get_submodule(path) for model in (teacher, student))
    for block, source in zip(taken, (sources[0], sources[2]), strict=True):
        state = source.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in block.state_dict().items())
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(**texts()).logits, student(**texts()).logits)


@pytest.mark.parametrize("name", DERIVED)
def test_all_linear_layers_of_the_blocks_can_be_pruned_together(name: str) -> None:
    model = model_of(name)
    chosen, skipped = select_modules(model, ["attention", "ffn"])
    path = next(iter(family(model.config).stacks.values())).blocks
    inside = {n for n, m in model.base_model.get_submodule(path).named_modules() if isinstance(m, torch.nn.Linear)}
    assert inside and {n.partition(f"{path}.")[2] for n in chosen if f"{path}." in n} >= inside
    experts = {n for n, parameter in model.named_parameters() if parameter.ndim > 2}
    assert experts <= skipped.keys()
    if name not in STRUCTURE:
        with pytest.raises(ValueError, match=f"the level 'structure', and a {model.config.model_type} has the level"):
            select_modules(model, ["ffn"])


@pytest.mark.parametrize("name", ["granitemoe", "minimax"])
def test_rounding_does_not_make_a_decoder_an_encoder(name: str) -> None:
    """Experts get other batches of tokens if the last token is another one."""
    assert list(family(AutoConfig.for_model(name)).stacks) == ["decoder"]


def test_what_a_level_lacks_is_refused_by_its_name() -> None:
    bird = config_of("big_bird")
    with pytest.raises(ValueError, match="needs the level 'attention', and a big_bird has the level 'hidden'"):
        Recorder(model_of("big_bird")).trace(texts(), Signals(attention=frozenset({("encoder", 1)})))
    with pytest.raises(ValueError, match=r"^hidden: this needs the level 'structure', and a big_bird has .*'hidden'"):
        Transformer(hidden=16).check(bird)
    with pytest.raises(ValueError, match="losses on outputs, pruning of elements and quantization; losses on hidden"):
        require(bird, "structure")


def test_a_family_without_known_blocks_has_its_outputs() -> None:
    """XLM has no blocks, but a list of each kind of layer."""
    config = AutoConfig.for_model("xlm", vocab_size=100, emb_dim=32, n_layers=3, n_heads=4, pad_token_id=0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert family(config).level == "outputs"
    trace = Recorder(model).trace(texts(), Signals(logits=True))
    assert torch.equal(trace.logits, model(**texts()).logits)
    with pytest.raises(ValueError, match="needs the level 'hidden', and a xlm has the level 'outputs'"):
        find_stack(config)
    chosen, _ = select_modules(model, ["attention", "ffn"])
    assert len(chosen) == 18


def test_a_family_whose_code_fails_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("phi", hidden_size=40)
    monkeypatch.setattr(probe, "_first_that_runs", lambda *_: 1 / 0)
    message = r"level 'outputs': .* \(a tiny model of it failed: ZeroDivisionError: division by zero\)$"
    with pytest.raises(ValueError, match=f"^layers: this needs the level 'hidden', and a phi has the {message}"):
        require(config, "hidden", "layers")


def test_the_facts_of_a_config_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("phi")
    facts = family(config)
    monkeypatch.setattr(type(config), "to_dict", None)
    assert family(config) is facts
