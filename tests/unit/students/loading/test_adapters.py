"""An adapter's folder is a model: merged, with the labels of its head, and a teacher or a student like any other."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from distill import run
from students.loading.adapters import base_model_name, load_config, load_model, load_tokenizer
from students.weights import model_sparsity
from tests.helpers.families import batch, tiny


def adapt(base: PreTrainedModel, folder: Path, task: str, layers: list[str]) -> torch.Tensor:
    """Saves a base model and an adapter on it whose weights are wide of zero; what the two compute together."""
    base.save_pretrained(folder / "base")
    base.config._name_or_path = base.name_or_path = str(folder / "base")
    model = get_peft_model(base, LoraConfig(task_type=task, r=2, target_modules=layers))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.3)
    model.eval().save_pretrained(folder / "adapter")
    inputs = batch(base.config.model_type)
    with torch.no_grad():
        return model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "head", "task", "layers"),
    [("bert", "classification", "SEQ_CLS", ["query", "value"]), ("gpt2", "lm", "CAUSAL_LM", ["c_attn"])],
)
def test_what_is_loaded_is_the_base_with_the_adapter_merged(tmp_path, name, head, task, layers):
    with torch.enable_grad():
        expected = adapt(tiny(name, head=head), tmp_path, task, layers)
    auto = AutoModelForSequenceClassification if head == "classification" else AutoModelForCausalLM
    source = str(tmp_path / "adapter")
    assert base_model_name(source) == str(tmp_path / "base") and base_model_name(str(tmp_path / "base")) is None
    model, missing = load_model(auto, source, load_config(source))
    inputs = batch(name)
    actual = model.eval()(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
    plain = tiny(name, head=head)
    assert missing == [] and type(model) is type(plain)
    assert [*model.state_dict()] == [*plain.state_dict()], "nothing of PEFT is left in it"


def test_the_head_of_the_adapter_says_how_many_labels_there_are(tmp_path):
    """A base that was never fine-tuned has two, whatever is trained on it."""
    base = tiny("bert", labels=2)
    base.classifier, base.config.num_labels = nn.Linear(32, 5), 5
    adapt(base, tmp_path, "SEQ_CLS", ["query"])
    tiny("bert", labels=2).save_pretrained(tmp_path / "base")
    config = load_config(str(tmp_path / "adapter"))
    model, missing = load_model(AutoModelForSequenceClassification, str(tmp_path / "adapter"), config)
    assert config.num_labels == 5 and missing == []
    torch.testing.assert_close(model.classifier.weight, base.classifier.modules_to_save["default"].weight)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_fills_the_zeros_of_its_base_says_so(tmp_path):
    base = tiny("bert")
    with torch.no_grad():
        for layer in base.bert.encoder.layer:
            for module in (layer.attention.self.query, layer.attention.self.value, layer.output.dense):
                module.weight[:, ::2] = 0
    share = model_sparsity(base)
    adapt(base, tmp_path, "SEQ_CLS", ["query", "value"])
    source = str(tmp_path / "adapter")
    with pytest.warns(UserWarning, match=f"{share:.1%} of the weights of .*base are zero, and .*adapters fill zeros"):
        model, _ = load_model(AutoModelForSequenceClassification, source, load_config(source))
    assert share > 0.1 and model_sparsity(model) == pytest.approx(share / 2, abs=0.02)


def test_it_teaches_and_learns(tiny_run: Path, materials: Path, tmp_path: Path) -> None:
    source = materials / "teacher"
    base = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32)
    parameters = base.num_parameters()
    adapt(base, tmp_path, "SEQ_CLS", ["query", "value"])
    load_tokenizer(str(source)).save_pretrained(tmp_path / "base")
    adapter, given = str(tmp_path / "adapter"), {"prune": None, "quantize": None, "trainer": {"max_steps": 2}}
    next_report = run(tiny_run, name="next", teacher=adapter, **given)
    labels = {"labels": {"kind": "Labels"}}
    learns = run(tiny_run, name="learns", teacher=None, student=adapter, losses=labels, **given)
    assert next_report.models["teacher"].parameters == learns.models["student"].parameters == parameters
