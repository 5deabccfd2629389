"""Recurrent networks (RNN, GRU, LSTM) as transformers models: saved, loaded and traced like any other.

``import students`` (or this file) registers them with the Auto classes of transformers.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
    initialization,
)
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import ModelOutput

from students.families.table import RECURRENT
from students.models.recurrent_layer import Direction, Layer, RecurrentKernel

EMBEDDING_STD = 0.1
"""The standard deviation of randomly initialized embeddings."""


@strict
class RecurrentConfig(PretrainedConfig):
    """The config of a recurrent network: ``num_hidden_layers`` layers of ``units`` cells in each direction.

    Embeddings have ``embedding_size`` dimensions. An LSTM may project its states to ``projection_size``.
    """

    model_type = RECURRENT

    vocab_size: int = 30522
    cell: Literal["rnn", "gru", "lstm"] = "lstm"
    embedding_size: int = 300
    units: int = 256
    num_hidden_layers: int = 1
    bidirectional: bool = True
    projection_size: int | None = None
    dropout: float | int = 0.1
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True

    @property
    def hidden_size(self) -> int:
        """The width of the states of a layer, both directions together."""
        return (1 + self.bidirectional) * (self.projection_size or self.units)


class Recurrent(PreTrainedModel):
    """The base class of the models with and without a head; they compute no loss."""

    config_class = RecurrentConfig
    base_model_prefix = "encoder"
    _input_embed_layer = "embeddings"
    _no_split_modules = ("Layer",)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Direction):  # as torch initializes them
            for parameter in module.parameters():
                initialization.uniform_(parameter, -(self.config.units**-0.5), self.config.units**-0.5)
        elif isinstance(module, nn.Linear) and not isinstance(module, RecurrentKernel):
            initialization.xavier_uniform_(module.weight)
            initialization.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, std=EMBEDDING_STD)


class RecurrentModel(Recurrent):
    """Embeddings and layers, without a head."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        widths = [config.embedding_size] + [config.hidden_size] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(
            Layer(config.cell, width, config.units, config.bidirectional, config.projection_size) for width in widths
        )
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> BaseModelOutput:
        """Return the states of the last layer, [B, S, H], with zeros at padding.

        Args:
            input_ids: [B, S].
            attention_mask: 1 at tokens and 0 at padding, which must be on the right, [B, S]; by default all are tokens.
            token_type_ids: ignored; the tokenizers of some teachers return them.

        Raises:
            ValueError: if padding precedes a token.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.dropout(torch.where(mask[..., None].bool(), self.embeddings(input_ids), 0.0))
        is_export = torch.onnx.is_in_onnx_export()
        length_mask = mask if is_export else mask.cpu()  # rows are packed by lengths on the CPU
        if not is_export and (length_mask[:, 1:] > length_mask[:, :-1]).any():
            raise ValueError("attention_mask: padding must be on the right of the tokens")
        lengths = length_mask.sum(1).clamp(min=1)
        for layer in self.layers[:-1]:
            states = self.dropout(layer(states, lengths))
        return BaseModelOutput(last_hidden_state=self.layers[-1](states, lengths))


class _WithHead(Recurrent, ABC):
    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.encoder = RecurrentModel(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> ModelOutput:
        """Return the output of the head; the arguments are those of ``RecurrentModel``."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.head_output(self.encoder(input_ids, mask).last_hidden_state, mask)

    @abstractmethod
    def head_output(self, states: Tensor, mask: Tensor) -> ModelOutput:
        """Return the output for the states of the last layer, [B, S, H], and the mask, [B, S]."""


class RecurrentForSequenceClassification(_WithHead):
    """Classes of a text, [B, C], from the final states through a ReLU layer (Tang 2019, arXiv 1903.12136)."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.dense = nn.Linear(config.hidden_size, config.units)
        self.classifier = nn.Linear(config.units, config.num_labels)
        self.post_init()

    def head_output(self, states: Tensor, mask: Tensor) -> SequenceClassifierOutput:
        final = self.dropout(final_states(states, mask, self.config.bidirectional))
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(self.dense(final).relu())))


def final_states(states: Tensor, mask: Tensor, bidirectional: bool) -> Tensor:
    """Return the final states [B, H] of states [B, S, H]: forward at the last token, backward at the first."""
    last = mask.sum(1).clamp(min=1) - 1
    forward_states = states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)
    if not bidirectional:
        return forward_states
    half = states.shape[-1] // 2
    return torch.cat([forward_states[:, :half], states[:, 0, half:]], -1)


class RecurrentForTokenClassification(_WithHead):
    """Classes of each token, [B, S, C]."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def head_output(self, states: Tensor, mask: Tensor) -> TokenClassifierOutput:
        return TokenClassifierOutput(logits=self.classifier(self.dropout(states)))


class RecurrentForQuestionAnswering(_WithHead):
    """Start and end of an answer, [B, S] each."""

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def head_output(self, states: Tensor, mask: Tensor) -> QuestionAnsweringModelOutput:
        start, end = self.classifier(self.dropout(states)).unbind(-1)
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)


class RecurrentForMaskedLM(_WithHead):
    """Masked tokens, [B, S, V]: states are projected to the width of the embeddings, which are tied to the LM head
    (Press and Wolf 2016, arXiv 1608.05859).
    """

    _tied_weights_keys = {"lm_head.weight": "encoder.embeddings.weight"}

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.lm_head = nn.Linear(config.embedding_size, config.vocab_size)
        self.post_init()

    def head_output(self, states: Tensor, mask: Tensor) -> MaskedLMOutput:
        return MaskedLMOutput(logits=self.lm_head(self.dense(self.dropout(states))))


class RecurrentForCausalLM(RecurrentForMaskedLM):
    """The next token, [B, S, V], of a unidirectional model; it has no cache, so generation runs it for each token.

    Raises:
        ValueError: if the model is bidirectional.
    """

    def __init__(self, config: RecurrentConfig):
        if config.bidirectional:
            raise ValueError("bidirectional: a causal language model reads forward only; set it to false")
        super().__init__(config)


AutoConfig.register(RECURRENT, RecurrentConfig)
for _head, _model in {
    AutoModel: RecurrentModel,
    AutoModelForSequenceClassification: RecurrentForSequenceClassification,
    AutoModelForTokenClassification: RecurrentForTokenClassification,
    AutoModelForQuestionAnswering: RecurrentForQuestionAnswering,
    AutoModelForMaskedLM: RecurrentForMaskedLM,
    AutoModelForCausalLM: RecurrentForCausalLM,
}.items():
    _head.register(RecurrentConfig, _model)
