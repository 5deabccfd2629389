"""Rounding that makes good in later inputs what it spoils in earlier ones: the outputs of a layer change least."""

import torch
from torch import Tensor

from quant_aware.quantizers.grids import Quantizer
from students.recording.input_grams import inverse_cholesky


def gptq(weight: Tensor, gram: Tensor, grid: Quantizer, qparams: Tensor) -> Tensor:
    """A weight [out, in] on its grid, column by column; zeros stay.

    ``e_j = (w_j - round(w_j)) / c_jj`` is pushed to the later columns, ``W_k -= e_j c_jk``, c the upper Cholesky factor
    of the damped ``(X'X)^-1`` (GPTQ: Frantar et al. 2022, arXiv 2210.17323).

    Args:
        weight: float, [out, in].
        gram: ``X'X`` of the inputs, [in, in].
        grid: on which each number is rounded by itself, as on those that learn steps or tables.
        qparams: of its groups, [G, k].
    """
    found, factor = weight.to(torch.float64, copy=True), inverse_cholesky(gram)
    there, outputs = weight != 0, len(weight)
    qparams = (
        qparams.double().reshape(-1, qparams.shape[1]) if len(qparams) > 1 else qparams.double().expand(outputs, -1)
    )
    qparams = qparams.reshape(outputs, -1, qparams.shape[1])  # [out, groups of one output, k]
    width = weight.shape[1] // qparams.shape[1]
    for j in range(weight.shape[1]):
        rounded = there[:, j] * grid.fake_quantize_learned(found[:, j : j + 1].clone(), qparams[:, j // width]).squeeze(
            1
        )
        error = (found[:, j] - rounded) / factor[j, j]
        found[:, j:] -= error.unsqueeze(1) * factor[j, j:]
        found[:, j] = rounded
    return found.to(weight.dtype)
