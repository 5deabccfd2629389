"""What Lightning leaves behind."""

import pytest
import torch


@pytest.fixture
def one_of_one():
    """Lightning leaves the group of processes that it made, and another test may want its own."""
    yield
    torch.distributed.destroy_process_group()
