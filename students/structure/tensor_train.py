"""Token embeddings as a tensor train: a product of three small embeddings, one row of each for a token."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TensorTrainShape = dict[str, list[int]]
"""``vocab_factors``, whose product is at least the vocabulary size, ``width_factors``, whose product is the embedding
width, and ``ranks``."""


class TensorTrainEmbedding(nn.Module):
    """An embedding ``E[(i1 i2 i3), (j1 j2 j3)] = G1[i1, j1] G2[i2, j2] G3[i3, j3]``; i are the digits of a token id.

    ``G1[i1, j1]`` is [1, r1], ``G2[i2, j2]`` [r1, r2] and ``G3[i3, j3]`` [r2, 1] (Oseledets 2011; as an embedding
    Khrulkov et al. 2019, arXiv 1901.10787). Each of ``cores`` is a plain embedding; row i of it holds all ``G[i]``.

    Args:
        shape: the sizes.
        device: of the weights.
    """

    def __init__(self, shape: TensorTrainShape, device: torch.device | None = None):
        super().__init__()
        self.shape, ranks = shape, [1, *shape["ranks"], 1]
        widths = [
            left * size * right for size, (left, right) in zip(shape["width_factors"], pairwise(ranks), strict=True)
        ]
        sizes = zip(shape["vocab_factors"], widths, strict=True)
        self.cores = nn.ModuleList(nn.Embedding(count, width, device=device) for count, width in sizes)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings of tokens, [...] to [..., width]."""
        digits, rest = [], ids
        for count in reversed(self.shape["vocab_factors"][1:]):
            digits.insert(0, rest % count)
            rest = rest // count
        rows = self.cores[0](rest).unflatten(-1, (self.shape["width_factors"][0], -1))
        for core, size, digit in zip(self.cores[1:], self.shape["width_factors"][1:], digits, strict=False):
            rows = rows @ core(digit).unflatten(-1, (rows.shape[-1], -1))  # [..., widths so far, size * rank]
            rows = rows.unflatten(-1, (size, -1)).flatten(-3, -2)
        return rows.squeeze(-1)


@torch.no_grad()
def embedding_matrix(model: PreTrainedModel) -> Tensor:
    """Return the token embeddings of a model as a matrix, float32 [vocabulary, width], whatever their form."""
    embeddings = model.get_input_embeddings()
    ids = torch.arange(model.config.vocab_size, device=next(embeddings.parameters()).device)
    # in pieces: a tensor train makes a matrix for each token
    return torch.cat([embeddings(chunk).float() for chunk in ids.split(1024)])


def tensor_train_shape(vocab_size: int, width: int, rank: int) -> TensorTrainShape:
    """Return three factors of the vocabulary size and of the width, as even as possible, and the ranks.

    A rank is at most the one at which the tensor train is exact.

    Raises:
        ValueError: if the width has no three factors above 1.
    """
    triples = [(a, b, width // (a * b)) for a in range(2, width) for b in range(a, width // a) if width % (a * b) == 0]
    width_factors = min((sorted(triple) for triple in triples), key=max, default=None)
    if not width_factors:
        raise ValueError(f"an embedding width of {width} is no product of three factors above 1")
    first = math.ceil(vocab_size ** (1 / 3))
    second = math.ceil((vocab_size / first) ** 0.5)
    vocab_factors = [first, second, math.ceil(vocab_size / (first * second))]
    modes = [count * size for count, size in zip(vocab_factors, width_factors, strict=True)]
    ranks = [min(rank, modes[0], modes[1] * modes[2]), min(rank, modes[0] * modes[1], modes[2])]
    return {"vocab_factors": vocab_factors, "width_factors": width_factors, "ranks": ranks}


@torch.no_grad()
def tensor_train_svd(matrix: Tensor, shape: TensorTrainShape) -> list[Tensor]:
    """Return the cores of the tensor train that approximates a matrix [vocabulary, width], all of one scale.

    Two singular value decompositions, each truncated to its rank (TT-SVD, Oseledets 2011): the error is at most sqrt(2)
    times that of the best tensor train of these ranks, and zero at full rank.
    """
    (count_1, count_2, count_3), sizes, (rank_1, rank_2) = (
        shape["vocab_factors"],
        shape["width_factors"],
        shape["ranks"],
    )
    padded = matrix.new_zeros(count_1 * count_2 * count_3, matrix.shape[1])
    padded[: len(matrix)] = matrix
    modes = padded.view(count_1, count_2, count_3, *sizes).permute(0, 3, 1, 4, 2, 5)
    left, singular_values, right = torch.linalg.svd(modes.reshape(count_1 * sizes[0], -1), full_matrices=False)
    rest = (singular_values[:rank_1, None] * right[:rank_1]).reshape(rank_1 * count_2 * sizes[1], -1)
    middle, singular_values, right = torch.linalg.svd(rest, full_matrices=False)
    last = (singular_values[:rank_2, None] * right[:rank_2]).reshape(rank_2, count_3, -1)
    cores = [
        left[:, :rank_1].reshape(count_1, -1),
        middle[:, :rank_2].reshape(rank_1, count_2, sizes[1], rank_2).movedim(1, 0).reshape(count_2, -1),
        last.movedim(1, 0).reshape(count_3, -1),
    ]
    scales = [core.square().mean().sqrt().clamp(min=1e-12) for core in cores]
    mean = torch.stack(scales).log().mean().exp()
    return [core * (mean / scale) for core, scale in zip(cores, scales, strict=True)]


def set_tensor_train(model: PreTrainedModel, shape: TensorTrainShape) -> None:
    """Replace, in place, the token embeddings of a model by a tensor train, whose weights are still to be set.

    Raises:
        ValueError: if the embeddings are tied to the LM head.
    """
    embeddings = model.get_input_embeddings()
    if isinstance(embeddings, TensorTrainEmbedding):  # the inner model of Llama's classifier has one already
        return
    (path,) = (name for name, module in model.named_modules() if module is embeddings)
    keys = model.get_expanded_tied_weights_keys(all_submodels=True)
    group = {f"{path}.weight"}.union(*(pair for pair in keys.items() if f"{path}.weight" in pair))
    names = [path, *sorted(name.removesuffix(".weight") for name in group if name != f"{path}.weight")]
    if not all(isinstance(model.get_submodule(name), nn.Embedding) for name in names):
        raise ValueError("the token embeddings are tied to the LM head, which cannot be a tensor train")
    new = TensorTrainEmbedding(shape, embeddings.weight.device).to(embeddings.weight.dtype)
    for name in names:
        parent, _, key = name.rpartition(".")
        setattr(model.get_submodule(parent), key, new)
    tied = {f"{name}.{key}": f"{path}.{key}" for name in names[1:] for key, _ in new.named_parameters()}
    model._tied_weights_keys, model.all_tied_weights_keys = (
        {target: source for target, source in tied_keys.items() if not {target, source} & group} | tied
        for tied_keys in (model._tied_weights_keys or {}, model.all_tied_weights_keys)
    )
