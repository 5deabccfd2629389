"""Two factors against singular values in float64."""

import pytest
import torch

from students.recording.input_grams import damp
from students.structure.factored import input_weighted_svd, truncated_svd


def test_a_truncation_is_the_nearest_of_its_rank():
    """Eckart and Young: what is lost are the squares of the singular values left out."""
    weight = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(weight.double())
    for rank in (1, 7, 24):
        left, right = truncated_svd(weight, rank)
        assert left.shape == (24, rank) and right.shape == (rank, 40)
        lost = (weight.double() - left.double() @ right.double()).square().sum()
        torch.testing.assert_close(lost, values[rank:].square().sum(), rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))


@pytest.mark.parametrize("size", [(24, 40), (40, 24)], ids=str)
def test_a_weighted_one_is_the_nearest_in_what_it_makes_of_inputs(size):
    """Against the truncation of W L, for inputs of very different scales, fewer of them than there are dimensions."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(*size, generator=draw)
    read = torch.randn(20, size[1], generator=draw) * torch.logspace(-2, 2, size[1])
    gram = read.T @ read
    lower = torch.linalg.cholesky(damp(gram))

    values = torch.linalg.svdvals(weight.double() @ lower)
    for rank in (1, 7, 23):
        left, right = input_weighted_svd(weight, rank, gram)
        assert left.shape == (size[0], rank) and right.shape == (rank, size[1])
        error, plain = (
            weight.double() - a.double() @ b.double() for a, b in ((left, right), truncated_svd(weight, rank))
        )
        torch.testing.assert_close((error @ lower).square().sum(), values[rank:].square().sum(), rtol=1e-3, atol=0)
        assert (error @ read.T.double()).norm() < (plain @ read.T.double()).norm()
        torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))
    left, right = input_weighted_svd(weight, 24, gram)
    torch.testing.assert_close(left @ right, weight, rtol=0, atol=1e-4)
    assert all(part.isfinite().all() for part in input_weighted_svd(weight * 0, 3, gram * 0))
