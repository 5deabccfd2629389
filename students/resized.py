"""Models with sizes of their own: cut by pruning, and saved and loaded like any other.

``import students`` (or this file) makes transformers know them: a ``resized-bert`` is a BERT that is built as
its config says, or with the hidden size in ``config.built`` and then cut to that of the config, and then has its blocks
cut to ``config.sizes``.
"""

import copy
from functools import cache

import torch
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
)

from students.families import FAMILIES, RESIZED, family, intermediate_size
from students.inherit import head_shape
from students.units import heads, neurons, shrink, stacks
from students.width import narrow, restore

Sizes = dict[str, list[dict[str, int]]]
"""By stack, for each block: feed-forward units (``intermediate``) and key and value heads (``heads``);
0 of them where the whole branch is gone."""


def sizes(model: PreTrainedModel) -> Sizes:
    """The sizes that the blocks really have."""
    found: Sizes = {name: [{} for _ in blocks] for name, blocks in stacks(model).items()}
    for key, groups in (("intermediate", neurons(model)), ("heads", heads(model))):
        for units in groups:
            stack, block, _ = units.name.split(".")
            found[stack][int(block)][key] = units.count
    return found


def resize(model: PreTrainedModel, wanted: Sizes) -> None:
    """Cut the blocks to ``wanted``, keeping the first units of each; before weights are loaded.

    Raises:
        ValueError: if ``wanted`` is not for this model: other stacks or blocks, or more units than there are.
    """
    blocks = {name: len(found) for name, found in stacks(model).items()}
    if {name: len(found) for name, found in wanted.items()} != blocks:
        raise ValueError(f"sizes: do not name the blocks of this {model.config.model_type}")
    for key, groups in (("intermediate", neurons(model)), ("heads", heads(model))):
        for units in groups:
            stack, block, _ = units.name.split(".")
            count = wanted[stack][int(block)][key]
            if not 0 <= count <= units.count:
                raise ValueError(f"sizes: {units.name} has {units.count} units, not {count}")
            if count < units.count:
                shrink(units, torch.arange(units.count, device="cpu") < count)


def record_sizes(model: PreTrainedModel, built: dict[str, int] | None = None) -> None:
    """Write the sizes of the blocks into the config, after cutting; ``built`` are the widths before ``narrow``.

    Where a stock config can say them the model stays what it was; otherwise it becomes one of ours.
    """
    config, ours = model.config, model.config.model_type.startswith(RESIZED)
    if not ours and (plain := _plain(model, built)):
        for key in (family(config).intermediate, "num_attention_heads", "num_key_value_heads"):
            if getattr(config, key, None) != getattr(plain, key, None):
                setattr(config, key, getattr(plain, key))
        return
    if not ours:
        # The config objects are shared with the modules inside, which read them: they change in place.
        model.__class__ = resized_model(type(model))
        config.__class__ = model.config_class
    config.sizes, config.built = sizes(model), getattr(config, "built", None) or built


def _plain(model: PreTrainedModel, built: dict[str, int] | None) -> PretrainedConfig | None:
    """The stock config of a model of this very shape, if there is one."""
    blocks = [block for stack in sizes(model).values() for block in stack]
    config, facts = copy.deepcopy(model.config), family(model.config)
    # Without neurons a stock GPT-2 can be made, and cannot run.
    if any(block != blocks[0] for block in blocks) or 0 in blocks[0].values():
        return None
    if built and facts.scaled and getattr(config, facts.scaled) and model.get_output_embeddings() is not None:
        return None
    if intermediate_size(config) != blocks[0]["intermediate"]:
        setattr(config, facts.intermediate, blocks[0]["intermediate"])
    config.num_attention_heads = blocks[0]["heads"] * head_shape(config)[1]
    if getattr(config, "num_key_value_heads", None):
        config.num_key_value_heads = blocks[0]["heads"]
    try:
        with torch.device("meta"):
            stock = type(model)(type(config).from_dict(config.to_dict()))
    except (ValueError, StrictDataclassError):  # the heads do not divide the hidden size
        return None
    shapes = [{name: p.shape for name, p in each.named_parameters()} for each in (model, stock)]
    return config if shapes[0] == shapes[1] and sizes(model) == sizes(stock) else None


@cache
def resized_config(base: type[PretrainedConfig]) -> type[PretrainedConfig]:
    """The config of the resized models of a family: the stock one, ``sizes`` and ``built``."""
    made = type(
        f"Resized{base.__name__}",
        (base,),
        {
            "__module__": __name__,
            "__annotations__": {"sizes": dict | None, "built": dict | None},
            "sizes": None,
            "built": None,
            "validate_architecture": lambda self: None,  # heads need not divide a hidden size that was cut
            "model_type": RESIZED + base.model_type,
            "__doc__": f"A {base.__name__} whose blocks have ``sizes`` of their own, cut from the widths ``built``.",
        },
    )
    return _publish(strict(made))


@cache
def resized_model(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The resized form of a model class: built as the stock one, then cut to the hidden size and ``config.sizes``."""

    def build(self, config: PretrainedConfig):
        built, size = config.built, config.hidden_size
        if built:
            restore(config)
        base.__init__(self, config)
        if built:
            narrow(self, torch.arange(built["hidden_size"], device="cpu") < size)
            config.built = built
        resize(self, config.sizes)

    return _publish(
        type(
            f"Resized{base.__name__}",
            (base,),
            {
                "__module__": __name__,
                "__init__": build,
                "config_class": resized_config(base.config_class),
                "__doc__": f"A {base.__name__} whose blocks have the sizes that its config names.",
            },
        )
    )


def _publish(made: type) -> type:
    """Give a class made here a place in this module, where pickle looks for it."""
    globals()[made.__name__] = made
    return made


_HEADS = {
    AutoModel: MODEL_MAPPING,  # Llama's classifier makes its inner model through it
    AutoModelForSequenceClassification: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForTokenClassification: MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForQuestionAnswering: MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    AutoModelForMaskedLM: MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM: MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForSeq2SeqLM: MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
}
for _family in FAMILIES:
    _stock = CONFIG_MAPPING[_family]
    AutoConfig.register(RESIZED + _family, resized_config(_stock))
    for _head, _models in _HEADS.items():
        if _stock in _models:
            _head.register(resized_config(_stock), resized_model(_models[_stock]))
