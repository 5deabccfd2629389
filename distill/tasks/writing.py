"""How a model writes a text: the likeliest next token each time, with a cache where the model has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from distill.tasks.task import Predict
from quant_aware.quantizers.activations import FakeQuantInput
from students.recording.model_io import model_inputs
from students.recording.sparse_lm_head import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def greedy(predict: Predict, batch: dict[str, Tensor], end: int, longest: int, others: Sequence[int] = ()) -> Tensor:
    """What a model writes when it takes the likeliest next token each time, [B, T]; ``end`` after its end.

    It reads all that is written anew for each token, as a graph of ONNX must, which has no cache.

    Args:
        predict: gives logits [B, T, V] of a batch with ``decoder_input_ids`` [B, T].
        batch: whose first decoder input starts a text.
        end: the token that ends a text.
        longest: tokens, after which it stops anyhow.
        others: more tokens that end a text.
    """
    read = {name: value for name, value in batch.items() if name not in ("labels", "decoder_attention_mask")}
    written = read.pop("decoder_input_ids")[:, :1]
    at_work, ends = torch.arange(len(written)), written.new_tensor([end, *others])
    while len(at_work) and written.shape[1] <= longest:
        text = written[at_work]
        # Of a vocabulary only what comes next is asked.
        asked = torch.full_like(text, IGNORED)
        asked[:, -1] = end
        token = predict(read | {"decoder_input_ids": text, "labels": asked})[:, -1].argmax(-1).to(written.device)
        following = written.new_full((len(written), 1), end)
        following[at_work, 0] = token
        written, going = torch.cat([written, following], 1), ~torch.isin(token, ends)
        if not going.all():  # who has ended is not asked again
            at_work, read = at_work[going.cpu()], {name: value[going] for name, value in read.items()}
    return written[:, 1:]


class Writer:
    """A ``Predict`` of a model that has a cache of keys and values to write with.

    Args:
        model: of an encoder and a decoder, able to ``generate``.
        predict: how it is asked for logits.
    """

    def __init__(self, model: PreTrainedModel, predict: Predict):
        self.model, self.predict = model, predict

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        return self.predict(batch)

    @torch.no_grad()
    def greedy(
        self, batch: dict[str, Tensor], end: int, longest: int, others: Sequence[int] = (), tokens: int | None = None
    ) -> Tensor:
        """The same as ``greedy``, of the first ``tokens`` outputs, each token read once.

        Where inputs are rounded by the range of all that is read at once, that range is the text's, and so it is read
        anew here as well, as it will be where the student is deployed.
        """
        if any(_by_all(hook) for part in self.model.modules() for hook in part._forward_pre_hooks.values()):
            return greedy(lambda given: self.predict(given)[..., :tokens], batch, end, longest, others)
        read = {
            name: value for name, value in model_inputs(self.model, batch).items() if name != "decoder_attention_mask"
        }
        start = read["decoder_input_ids"] = read["decoder_input_ids"][:, :1]
        settings = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=longest,
            eos_token_id=[end, *others],
            pad_token_id=end,  # what follows the end
            decoder_start_token_id=int(start[0, 0]),
            use_cache=True,
        )
        # A model's own settings would fill in what is not set here, as penalties; the loop knows none.
        own, self.model.generation_config = self.model.generation_config, settings
        try:
            with parametrize.cached():  # masks and rounding are the same at each token
                return self.model.generate(
                    **read, generation_config=settings, logits_processor=LogitsProcessorList([_First(tokens)])
                )[:, 1:]
        finally:
            self.model.generation_config = own


def _by_all(hook: object) -> bool:
    return isinstance(hook, FakeQuantInput) and hook.enabled and hook.memo.kind.per == "tensor"


class _First(LogitsProcessor):
    """Leaves out what a vocabulary is padded with."""

    def __init__(self, tokens: int | None):
        self.tokens = tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores[:, : self.tokens]
