"""Each test here is run once for each family of tiny models."""

import pytest

from tests.helpers.families import FAMILIES


@pytest.fixture(params=FAMILIES, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    """The family's ``model_type``."""
    return request.param
