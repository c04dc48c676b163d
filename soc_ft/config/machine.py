"""What this machine has, against what a configuration asks for; torch is not imported."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from soc_ft.config.schema import Trainer
from soc_ft.errors import ConfigError

_NVML = "libnvidia-ml.so.1"
_OTHER_GPUS = Path("/dev/kfd")
"""Where AMD's driver is; PyTorch calls its devices cuda, too."""


def check_accelerator(trainer: Trainer) -> None:
    """Check that there are the GPUs that a run on this machine needs.

    Raises:
        ConfigError: there are not so many.
    """
    if trainer.accelerator == "cpu":
        return
    gpus = visible_gpus()
    if gpus is None or (gpus == 0 and trainer.accelerator == "auto"):
        return
    if gpus == 0:
        raise ConfigError(
            f"trainer.accelerator={trainer.accelerator}: {_none()}; use trainer.accelerator=cpu"
        )
    if trainer.devices > gpus:
        raise ConfigError(
            f"trainer.devices={trainer.devices}: this machine shows {gpus} GPU{'s' * (gpus > 1)} "
            f"to the process; use trainer.devices={gpus}"
        )


def check_device(device: str | None) -> None:
    """Check that there is the device that a command names.

    Raises:
        ConfigError: there is not.
    """
    kind, _, number = (device or "cpu").partition(":")
    if kind == "mps" and sys.platform != "darwin":
        raise ConfigError(f"device={device}: this is no Mac; use device=cpu")
    gpus = visible_gpus() if kind == "cuda" else None
    if gpus is not None and int(number or 0) >= gpus:
        there = f"there is only cuda:0 to cuda:{gpus - 1}" if gpus else f"{_none()}; use device=cpu"
        raise ConfigError(f"device={device}: {there}")


def visible_gpus() -> int | None:
    """How many CUDA devices this process may use; None if only PyTorch can tell.

    Asks NVIDIA's management library, which neither starts the driver's runtime nor stands in the
    way of a fork.
    """
    if _OTHER_GPUS.exists() or sys.platform == "win32":
        return None
    try:
        library = ctypes.CDLL(_NVML)
    except OSError:
        return 0
    count = ctypes.c_uint(0)
    if library.nvmlInit_v2() != 0:
        return 0
    found = library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    library.nvmlShutdown()
    if found != 0:
        return None
    return _among_visible(count.value, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _among_visible(count: int, variable: str | None) -> int:
    """How many of the devices the variable leaves; what follows a wrong number does not count."""
    if variable is None or count == 0:
        return count
    visible = 0
    for each in filter(None, map(str.strip, variable.split(","))):
        if each.lstrip("-").isdigit() and not 0 <= int(each) < count:
            break
        visible += 1
    return visible


def _none() -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    where = f" (CUDA_VISIBLE_DEVICES={hidden})" if hidden is not None else ""
    return f"there is no GPU that this process can use{where}"
