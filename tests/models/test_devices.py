"""A device that cannot be used is told in one line."""

from __future__ import annotations

import pytest
import torch

from soc_ft.errors import ConfigError
from soc_ft.models.devices import usable_device


def test_what_is_named_is_used() -> None:
    """Breaks if a device that is named gives way to another."""
    for given in ("cpu", torch.device("cpu"), "meta"):
        assert usable_device(given) == torch.device(given)


@pytest.mark.parametrize("there_is_one", [False, True])
def test_a_gpu_is_used_if_there_is_one(monkeypatch: pytest.MonkeyPatch, there_is_one: bool) -> None:
    """Breaks if a model is put on the CPU beside a GPU, or on a GPU that is not there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_one)
    made = []
    monkeypatch.setattr(torch, "empty", lambda *_, device: made.append(device))
    assert usable_device(None) == torch.device("cuda" if there_is_one else "cpu")
    assert made == [usable_device(None)] * len(made)


@pytest.mark.parametrize("given", ["nonsense", "cuda:99", "cpu:x"])
def test_what_cannot_be_used_is_named(given: str) -> None:
    """Breaks if a device fails in the middle of loading, or with a page of PyTorch's."""
    with pytest.raises(ConfigError, match=f"device={given}: cannot be used") as error:
        usable_device(given)
    assert "\n" not in str(error.value)
