"""Small rewards, made once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from soc_ft.rewards.network_reward import NetworkReward
from tests.rewards.small import SMALL

Arguments = dict[str, str]


@pytest.fixture(scope="session")
def arguments_of() -> Iterator[Callable[[str], Arguments]]:
    """Name -> arguments of a small reward; the files, of some 300 MB each, go in the end."""
    with tempfile.TemporaryDirectory() as folder:

        @cache
        def write(name: str) -> Arguments:
            (Path(folder) / name).mkdir()
            return SMALL[name][1](Path(folder) / name)

        yield write


@pytest.fixture(scope="session")
def small(arguments_of: Callable[[str], Arguments]) -> Callable[[str], NetworkReward]:
    """Name -> the small reward, loaded from its files once."""

    @cache
    def load(name: str) -> NetworkReward:
        return SMALL[name][0](**arguments_of(name))

    return load
