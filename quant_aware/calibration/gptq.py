"""GPTQ: rounding whose errors are compensated by the columns that come later, so that outputs change least."""

import torch
from torch import Tensor

from quant_aware.quantizers.quantizer import Quantizer
from students.recording.input_grams import inverse_cholesky


def gptq(weight: Tensor, gram: Tensor, quantizer: Quantizer, qparams: Tensor) -> Tensor:
    """Return a weight [out, in], quantized column by column; zeros stay zero.

    ``e_j = (w_j - round(w_j)) / c_jj`` is pushed to the later columns, ``W_k -= e_j c_jk``, c the upper Cholesky factor
    of the damped ``(X'X)^-1`` (GPTQ: Frantar et al. 2022, arXiv 2210.17323).

    Args:
        weight: float, [out, in].
        gram: ``X'X`` of the inputs, [in, in].
        quantizer: an elementwise one with learned qparams.
        qparams: of its groups, [G, k].
    """
    updated, factor = weight.to(torch.float64, copy=True), inverse_cholesky(gram)
    is_nonzero, outputs = weight != 0, len(weight)
    qparams = (
        qparams.double().reshape(-1, qparams.shape[1]) if len(qparams) > 1 else qparams.double().expand(outputs, -1)
    )
    qparams = qparams.reshape(outputs, -1, qparams.shape[1])  # [out, groups of one output, k]
    group_size = weight.shape[1] // qparams.shape[1]
    for j in range(weight.shape[1]):
        column = updated[:, j : j + 1].clone()
        quantized = is_nonzero[:, j] * quantizer.fake_quantize_learned(column, qparams[:, j // group_size]).squeeze(1)
        error = (updated[:, j] - quantized) / factor[j, j]
        updated[:, j:] -= error.unsqueeze(1) * factor[j, j:]
        updated[:, j] = quantized
    return updated.to(weight.dtype)
