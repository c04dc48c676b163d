"""Stands in for the training where only what becomes of a job matters: no library is loaded.

Python imports it at its start where it is called ``sitecustomize``. It ends as the reward of the
configuration says, see :class:`tests.scorers.EndsEarly`.
"""

from __future__ import annotations

import os
import signal
import sys
import types
from pathlib import Path
from typing import Any


def train(config: Any, run: Any, folder: Path, *others: Any) -> None:
    """Note the attempt, then raise, die, or leave a result."""
    with open(folder / "attempts", "a") as file:
        file.write("x")
    if not Path(config.reward.mended).exists():
        if config.reward.ending == "raises":
            raise ValueError("the reward broke")
        if config.reward.ending == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
    (folder / "results.json").write_text("{}")


training: Any = types.ModuleType("soc_ft.training.run")
training.train = train
sys.modules[training.__name__] = training
