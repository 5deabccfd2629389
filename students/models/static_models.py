"""Static models as transformers models: a mean of token embeddings and a small head, with no layer between them.

``import students`` (or this file) registers them with the Auto classes of transformers.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    initialization,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput

from students.families.table import STATIC

EMBEDDING_STD = 0.1
"""The standard deviation of randomly initialized embeddings."""


@strict
class StaticConfig(PretrainedConfig):
    """The config of a static model: embeddings of ``embedding_size``, a head with ``units`` neurons or, if 0, none."""

    model_type = STATIC

    vocab_size: int = 30522
    embedding_size: int = 256
    units: int = 256
    dropout: float | int = 0.1
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = False

    @property
    def hidden_size(self) -> int:
        """The width of the vector of a text."""
        return self.embedding_size


class Static(PreTrainedModel):
    """The base class of the models with and without a head; they compute no loss."""

    config_class = StaticConfig
    base_model_prefix = "encoder"
    _input_embed_layer = "embeddings"
    _no_split_modules = ()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            initialization.xavier_uniform_(module.weight)
            initialization.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, std=EMBEDDING_STD)


class StaticModel(Static):
    """The mean of the token embeddings of a text; the weight of a token is in the length of its embedding."""

    def __init__(self, config: StaticConfig):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        return_dict: bool = True,
    ) -> BaseModelOutputWithPooling:
        """Return the embeddings [B, S, E], with zeros at padding, and their mean over tokens, [B, E].

        Args:
            input_ids: [B, S].
            attention_mask: 1 at tokens and 0 at padding, on either side, [B, S]; by default all are tokens.
            token_type_ids: ignored; the tokenizers of some teachers return them.
            return_dict: ignored; sentence-transformers sets it.
        """
        embeddings = self.embeddings(input_ids)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        # Not ``where`` as for states: an embedding is finite at padding too, and a product is one cheap operator.
        embeddings = embeddings * mask[..., None].to(embeddings.dtype)
        count = mask.sum(1, keepdim=True).clamp(min=1).to(embeddings.dtype)
        return BaseModelOutputWithPooling(last_hidden_state=embeddings, pooler_output=embeddings.sum(1) / count)


class StaticForSequenceClassification(Static):
    """Classes of a text, [B, C], or a number, from the mean through a ReLU layer, or directly if it has no units."""

    def __init__(self, config: StaticConfig):
        super().__init__(config)
        self.encoder = StaticModel(config)
        self.dropout = nn.Dropout(config.dropout)
        if config.units:
            self.dense = nn.Linear(config.embedding_size, config.units)
        self.classifier = nn.Linear(config.units or config.embedding_size, config.num_labels)
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Return the logits; the arguments are those of ``StaticModel``."""
        states = self.dropout(self.encoder(input_ids, attention_mask).pooler_output)
        if self.config.units:
            states = self.dropout(self.dense(states).relu())
        return SequenceClassifierOutput(logits=self.classifier(states))


AutoConfig.register(STATIC, StaticConfig)
AutoModel.register(StaticConfig, StaticModel)
AutoModelForSequenceClassification.register(StaticConfig, StaticForSequenceClassification)
