"""The models and data of which some fit one another."""

from tests.helpers.fitted import folder as folder
