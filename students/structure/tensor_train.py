"""A table of words as a tensor train: a product of three small tables, one row of each for a word."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TensorTrainShape = dict[str, list[int]]
"""``words`` and ``sizes``, whose products are at least the words and exactly the width of the table, and ``ranks``."""


class TensorTrainEmbedding(nn.Module):
    """An embedding ``E[(i1 i2 i3), (j1 j2 j3)] = G1[i1, j1] G2[i2, j2] G3[i3, j3]``; i are the digits of a word.

    ``G1[i1, j1]`` is [1, r1], ``G2[i2, j2]`` [r1, r2] and ``G3[i3, j3]`` [r2, 1] (Oseledets 2011; as an embedding
    Khrulkov et al. 2019, arXiv 1901.10787). Each of ``cores`` is a plain embedding, a row of it all ``G[i]``.

    Args:
        form: the sizes.
    """

    def __init__(self, form: TensorTrainShape, device: torch.device | None = None):
        super().__init__()
        self.form, ranks = form, [1, *form["ranks"], 1]
        widths = [left * size * right for size, (left, right) in zip(form["sizes"], pairwise(ranks), strict=True)]
        parts = zip(form["words"], widths, strict=True)
        self.cores = nn.ModuleList(nn.Embedding(words, width, device=device) for words, width in parts)

    def forward(self, ids: Tensor) -> Tensor:
        """The rows of words, [...] to [..., width]."""
        digits, rest = [], ids
        for count in reversed(self.form["words"][1:]):
            digits.insert(0, rest % count)
            rest = rest // count
        rows = self.cores[0](rest).unflatten(-1, (self.form["sizes"][0], -1))
        for core, size, digit in zip(self.cores[1:], self.form["sizes"][1:], digits, strict=False):
            rows = rows @ core(digit).unflatten(-1, (rows.shape[-1], -1))  # [..., widths so far, size * rank]
            rows = rows.unflatten(-1, (size, -1)).flatten(-3, -2)
        return rows.squeeze(-1)


@torch.no_grad()
def embedding_matrix(model: PreTrainedModel) -> Tensor:
    """The table of words of a model, float32, [words, width], whatever it is made of."""
    table = model.get_input_embeddings()
    ids = torch.arange(model.config.vocab_size, device=next(table.parameters()).device)
    return torch.cat([table(some).float() for some in ids.split(1024)])  # a train has a matrix for each word


def tensor_train_shape(words: int, width: int, rank: int) -> TensorTrainShape:
    """Three factors of each, as even as can be, and the ranks, no higher than such a table can need.

    Raises:
        ValueError: if the width has no three factors above 1.
    """
    triples = [(a, b, width // (a * b)) for a in range(2, width) for b in range(a, width // a) if width % (a * b) == 0]
    sizes = min((sorted(triple) for triple in triples), key=max, default=None)
    if not sizes:
        raise ValueError(f"a table {width} wide is no product of three tables")
    first = math.ceil(words ** (1 / 3))
    second = math.ceil((words / first) ** 0.5)
    counts = [first, second, math.ceil(words / (first * second))]
    modes = [count * size for count, size in zip(counts, sizes, strict=True)]
    ranks = [min(rank, modes[0], modes[1] * modes[2]), min(rank, modes[0] * modes[1], modes[2])]
    return {"words": counts, "sizes": sizes, "ranks": ranks}


@torch.no_grad()
def tensor_train_svd(table: Tensor, form: TensorTrainShape) -> list[Tensor]:
    """The cores of the tensor train that stands for a table [words, width], all of one scale.

    Two singular value decompositions, each cut to its rank (TT-SVD, Oseledets 2011): the error is at most sqrt(2) times
    that of the best train of these ranks, and none at full rank.
    """
    (one, two, three), sizes, (first, second) = form["words"], form["sizes"], form["ranks"]
    whole = table.new_zeros(one * two * three, table.shape[1])
    whole[: len(table)] = table
    modes = whole.view(one, two, three, *sizes).permute(0, 3, 1, 4, 2, 5)
    left, values, right = torch.linalg.svd(modes.reshape(one * sizes[0], -1), full_matrices=False)
    rest = (values[:first, None] * right[:first]).reshape(first * two * sizes[1], -1)
    middle, values, right = torch.linalg.svd(rest, full_matrices=False)
    found = [
        left[:, :first].reshape(one, -1),
        middle[:, :second].reshape(first, two, sizes[1], second).movedim(1, 0).reshape(two, -1),
        (values[:second, None] * right[:second]).reshape(second, three, -1).movedim(1, 0).reshape(three, -1),
    ]
    scales = [core.square().mean().sqrt().clamp(min=1e-12) for core in found]
    mean = torch.stack(scales).log().mean().exp()
    return [core * (mean / scale) for core, scale in zip(found, scales, strict=True)]


def set_tensor_train(model: PreTrainedModel, form: TensorTrainShape) -> None:
    """Put a tensor train, with numbers still to be given, in the place of the table of words; in place.

    Raises:
        ValueError: if the table is the head of the model as well.
    """
    old = model.get_input_embeddings()
    if isinstance(old, TensorTrainEmbedding):  # of Llama's classifier the inner model has one already
        return
    (path,) = (name for name, module in model.named_modules() if module is old)
    keys = model.get_expanded_tied_weights_keys(all_submodels=True)
    group = {f"{path}.weight"}.union(*(pair for pair in keys.items() if f"{path}.weight" in pair))
    names = [path, *sorted(name.removesuffix(".weight") for name in group if name != f"{path}.weight")]
    if not all(isinstance(model.get_submodule(name), nn.Embedding) for name in names):
        raise ValueError("the table of words is the head as well, which a tensor train cannot be")
    new = TensorTrainEmbedding(form, old.weight.device).to(old.weight.dtype)
    for name in names:
        parent, _, key = name.rpartition(".")
        setattr(model.get_submodule(parent), key, new)
    tied = {f"{name}.{key}": f"{path}.{key}" for name in names[1:] for key, _ in new.named_parameters()}
    model._tied_weights_keys, model.all_tied_weights_keys = (
        {target: source for target, source in found.items() if not {target, source} & group} | tied
        for found in (model._tied_weights_keys or {}, model.all_tied_weights_keys)
    )
