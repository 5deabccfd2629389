"""Greedy text generation, with a key-value cache if the model has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from distill.tasks.task import Predict
from quant_aware.quantizers.activations import FakeQuantInput
from students.recording.model_io import model_inputs
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from transformers import GenerationMixin, PreTrainedModel


def greedy_generate(
    predict: Predict, batch: dict[str, Tensor], end: int, max_tokens: int, others: Sequence[int] = ()
) -> Tensor:
    """Generate texts greedily without a cache, as an ONNX graph requires: each step reads all tokens again.

    Args:
        predict: gives logits [B, T, V] of a batch with ``decoder_input_ids`` [B, T].
        batch: its first decoder input starts each text.
        end: the token that ends a text.
        max_tokens: the maximum length of a text.
        others: more tokens that end a text.

    Returns:
        The generated tokens [B, T]; ``end`` after the end of a text.
    """
    encoder_inputs = {name: value for name, value in batch.items() if name not in ("labels", "decoder_attention_mask")}
    tokens = encoder_inputs.pop("decoder_input_ids")[:, :1]
    unfinished, ends = torch.arange(len(tokens)), tokens.new_tensor([end, *others])
    while len(unfinished) and tokens.shape[1] <= max_tokens:
        text = tokens[unfinished]
        # Only the last position needs logits, so it alone has a label.
        labels = torch.full_like(text, IGNORED)
        labels[:, -1] = end
        logits = predict(encoder_inputs | {"decoder_input_ids": text, "labels": labels})
        token = logits[:, -1].argmax(-1).to(tokens.device)
        next_tokens = tokens.new_full((len(tokens), 1), end)
        next_tokens[unfinished, 0] = token
        tokens, continues = torch.cat([tokens, next_tokens], 1), ~torch.isin(token, ends)
        if not continues.all():  # finished texts leave the batch
            unfinished = unfinished[continues.cpu()]
            encoder_inputs = {name: value[continues] for name, value in encoder_inputs.items()}
    return tokens[:, 1:]


def generate(model: PreTrainedModel | None, batch: dict[str, Tensor], max_tokens: int) -> Tensor:
    """Return the tokens [B, T] that a model writes greedily, by its own settings.

    Raises:
        ValueError: if there is no model, as where a file in another runtime computes the logits.
    """
    if model is None:
        raise ValueError("a text is written by torch, and there is no model in torch")
    arguments = model_inputs(model, batch)
    # transformers declares ``generate`` in GenerationMixin, which its models with an LM head inherit too; its result
    # has more than the tokens only with ``return_dict_in_generate``.
    generator = cast("GenerationMixin", model)
    return cast(Tensor, generator.generate(**arguments, max_new_tokens=max_tokens, do_sample=False, num_beams=1))


class CachedGenerator:
    """A ``Predict`` of a model that can generate with a key-value cache.

    Args:
        model: an encoder-decoder with ``generate``.
        predict: computes its logits.
    """

    def __init__(self, model: PreTrainedModel, predict: Predict):
        self.model, self.predict = model, predict

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        return self.predict(batch)

    @torch.no_grad()
    def generate(
        self,
        batch: dict[str, Tensor],
        end: int,
        max_tokens: int,
        others: Sequence[int] = (),
        vocabulary_size: int | None = None,
    ) -> Tensor:
        """Generate the same texts as ``greedy_generate`` from the first ``vocabulary_size`` outputs, with a cache.

        If activations are quantized by the range of the whole input, the range depends on all tokens of a text; then
        all tokens are read again in each step, as by the deployed student.
        """
        if any(_has_tensor_range(hook) for part in self.model.modules() for hook in part._forward_pre_hooks.values()):

            def select(batch: dict[str, Tensor]) -> Tensor:
                return self.predict(batch)[..., :vocabulary_size]

            return greedy_generate(select, batch, end, max_tokens, others)
        arguments = model_inputs(self.model, batch)
        arguments = {name: value for name, value in arguments.items() if name != "decoder_attention_mask"}
        start = arguments["decoder_input_ids"] = arguments["decoder_input_ids"][:, :1]
        settings = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_tokens,
            eos_token_id=[end, *others],
            pad_token_id=end,  # after the end
            decoder_start_token_id=int(start[0, 0]),
            use_cache=True,
        )
        # The model's own settings would fill in those not set here, such as penalties, which greedy_generate lacks.
        original, self.model.generation_config = self.model.generation_config, settings
        processors = LogitsProcessorList([_PaddingMask(vocabulary_size)])
        try:
            with parametrize.cached():  # masked and quantized weights are the same at each token
                return self.model.generate(**arguments, generation_config=settings, logits_processor=processors)[:, 1:]
        finally:
            self.model.generation_config = original


def _has_tensor_range(hook: object) -> bool:
    return isinstance(hook, FakeQuantInput) and hook.enabled and hook.cache.quantizer.granularity == "tensor"


class _PaddingMask(LogitsProcessor):
    """Removes the outputs with which a vocabulary is padded."""

    def __init__(self, vocabulary_size: int | None):
        self.vocabulary_size = vocabulary_size

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores[:, : self.vocabulary_size]
