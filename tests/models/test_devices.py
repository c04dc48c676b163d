"""A device that cannot be used is told in one line."""

from __future__ import annotations

from typing import NoReturn

import pytest
import torch

from soc_ft.errors import ConfigError
from soc_ft.models.devices import usable_device


@pytest.mark.parametrize("there_is_one", [False, True])
def test_what_is_named_is_used(monkeypatch: pytest.MonkeyPatch, there_is_one: bool) -> None:
    """Breaks if a device that is named gives way to another."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_one)
    for given in ("cpu", torch.device("cpu"), "meta"):
        assert usable_device(given) == torch.device(given)


@pytest.mark.parametrize("there_is_one", [False, True])
def test_a_gpu_is_used_if_there_is_one(monkeypatch: pytest.MonkeyPatch, there_is_one: bool) -> None:
    """Breaks if a model is put on the CPU beside a GPU, on a GPU that is not there, or untried."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_one)
    tried: list[torch.device] = []
    monkeypatch.setattr(torch, "empty", lambda *_, device: tried.append(device))
    found = usable_device(None)
    assert found == torch.device("cuda" if there_is_one else "cpu")
    assert tried == [found]


@pytest.mark.parametrize("given", ["nonsense", "cuda:99", "cpu:x"])
def test_what_cannot_be_used_is_named(given: str) -> None:
    """Breaks if a device fails in the middle of loading, or with an error of PyTorch's."""
    with pytest.raises(ConfigError, match=f"device={given}: cannot be used") as error:
        usable_device(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError])
def test_what_pytorch_says_of_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """Breaks if a driver's page of advice, or what a build without CUDA raises, comes through."""

    def refuse(*_: object, device: object) -> NoReturn:
        raise kind(f"{device} is busy\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1")

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(ConfigError) as error:
        usable_device("cuda:0")
    assert str(error.value) == "device=cuda:0: cannot be used (cuda:0 is busy)"
