"""A run that the tests of the API share."""

from __future__ import annotations

import pytest

from soc_ft.api import FineTuned
from soc_ft.models.model import DiffusionModel
from tests.api.small import tiny, trained


@pytest.fixture(scope="package")
def red(tmp_path_factory: pytest.TempPathFactory) -> FineTuned:
    """A finished run on a function."""
    folder = tmp_path_factory.mktemp("api") / "red"
    return trained(tiny(), folder, "trainer.steps=8", "validation.every=8")


@pytest.fixture(scope="package")
def untrained() -> DiffusionModel:
    """A model for calls that are refused before they train it."""
    return tiny()
