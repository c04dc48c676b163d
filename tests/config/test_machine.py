"""Devices that are not there are named, without torch."""

from __future__ import annotations

import pytest

from soc_ft.config import check, machine
from soc_ft.config.machine import check_accelerator, check_device, visible_gpus
from soc_ft.errors import ConfigError
from tests.conftest import TINY, composed


def refused(monkeypatch: pytest.MonkeyPatch, gpus: int | None, *overrides: str) -> str | None:
    monkeypatch.setattr(machine, "visible_gpus", lambda: gpus)
    try:
        check_accelerator(check(composed(*TINY, "trainer.batch_size=8", *overrides)).trainer)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("gpus", "overrides", "words"),
    [
        (0, ["trainer.accelerator=gpu"], "use trainer.accelerator=cpu"),
        (1, ["trainer.accelerator=auto", "trainer.devices=2"], "use trainer.devices=1"),
        (4, ["trainer.accelerator=gpu", "trainer.devices=4"], None),
        (0, ["trainer.accelerator=auto", "trainer.devices=2"], None),
        (0, ["trainer.accelerator=cpu", "trainer.devices=2"], None),
        (None, ["trainer.accelerator=gpu"], None),
    ],
)
def test_gpus_must_be_there(
    gpus: int | None, overrides: list[str], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when Lightning is the first to notice, or a machine that can do it is refused."""
    line = refused(monkeypatch, gpus, *overrides)
    assert (line is None) == (words is None)
    assert words is None or words in str(line)


@pytest.mark.parametrize(
    ("device", "gpus", "words"),
    [
        ("cuda", 0, "there is no GPU"),
        ("cuda:3", 2, "there is only cuda:0 to cuda:1"),
        ("mps", 0, "no Mac"),
        ("cuda:1", 2, None),
        ("cpu", 0, None),
        (None, 0, None),
    ],
)
def test_a_named_device_must_be_there(
    device: str | None, gpus: int, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when sampling loads a model for a device that is not there."""
    monkeypatch.setattr(machine, "visible_gpus", lambda: gpus)
    if words is None:
        check_device(device)
        return
    with pytest.raises(ConfigError, match=words):
        check_device(device)


@pytest.mark.parametrize(
    ("variable", "count"),
    [(None, 4), ("", 0), ("-1", 0), ("0", 1), ("2,3", 2), ("0,7,1", 1), ("GPU-abc,GPU-def", 2)],
)
def test_hidden_gpus_do_not_count(variable: str | None, count: int) -> None:
    """Breaks when CUDA_VISIBLE_DEVICES is read otherwise than CUDA does."""
    assert machine._among_visible(4, variable) == count


def test_without_a_driver_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks when a machine without NVIDIA's library ends in an error of ctypes."""
    monkeypatch.setattr(machine, "_NVML", "libnothing.so.0")
    assert visible_gpus() == 0
