"""Models whose blocks have sizes of their own: cut by pruning, and saved and loaded like any other.

``import students`` (or this file) makes transformers know them: a ``resized-bert`` is a BERT that is built as
its config says and then has its blocks cut to ``config.sizes``.
"""

from functools import cache

import torch
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
from students.units import heads, neurons, shrink, stacks

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


def record_sizes(model: PreTrainedModel) -> None:
    """Write the sizes of the blocks into the config, after cutting.

    Where all feed-forwards are alike (and not gone) and no head is missing the stock config can say it, and the
    model stays what it was; otherwise it becomes one of ours.
    """
    config, found = model.config, sizes(model)
    blocks = [block for stack in found.values() for block in stack]
    whole = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    ours = config.model_type.startswith(RESIZED)
    widths = {block["intermediate"] for block in blocks}
    if ours or len(widths) > 1 or widths == {0} or any(block["heads"] != whole for block in blocks):
        if not ours:
            # The config objects are shared with the modules inside, which read them: they change in place.
            model.__class__ = resized_model(type(model))
            config.__class__ = model.config_class
        config.sizes = found
    elif widths != {intermediate_size(config)}:
        setattr(config, family(config).intermediate, widths.pop())


@cache
def resized_config(base: type[PretrainedConfig]) -> type[PretrainedConfig]:
    """The config of the resized models of a family: the stock one and ``sizes``."""
    return _publish(
        type(
            f"Resized{base.__name__}",
            (base,),
            {
                "__module__": __name__,
                "__annotations__": {"sizes": dict | None},
                "sizes": None,
                "model_type": RESIZED + base.model_type,
                "__doc__": f"A {base.__name__} whose blocks have ``sizes`` of their own.",
            },
        )
    )


@cache
def resized_model(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The resized form of a model class: built as the stock one, then cut to ``config.sizes``."""

    def build(self, config: PretrainedConfig):
        base.__init__(self, config)
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
