"""One fine-tuning run: what scores the pictures first, then all that takes long to load."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from tqdm.contrib.logging import logging_redirect_tqdm

from soc_ft.config.schema import RunConfig
from soc_ft.records.runs import Origin
from soc_ft.rewards.base import Reward
from soc_ft.training.preemption import Preemption
from soc_ft.training.scorers import build_scorers, prepare_torch

if TYPE_CHECKING:
    from soc_ft.models.model import DiffusionModel
    from soc_ft.training.module import RewardFineTuning

_TALKATIVE = ("diffusers", "transformers")


def train(
    config: DictConfig,
    run: RunConfig,
    folder: Path,
    origin: Origin | None = None,
    preemption: Preemption | None = None,
    model: DiffusionModel | None = None,
    reward: Reward | None = None,
) -> RewardFineTuning:
    """Run an experiment, or go on with it.

    Args:
        config: composed configuration.
        run: the same, validated.
        folder: of the run.
        origin: where the configuration comes from, for the record.
        preemption: how a scheduler asks the run to stop, if there is one.
        model: to be trained instead of the one that the configuration names.
        reward: to be trained on instead of the one that the configuration names.

    Returns:
        The module with the trained model.

    Raises:
        RunError: the run cannot go on; what was saved stays intact.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP asked it to stop; says what was saved.
        Preempted: a scheduler asked it to stop; it goes on from its last checkpoint.
    """
    prepare_torch(run)
    with quiet_libraries(), logging_redirect_tqdm():
        # A person's own reward is the likeliest to be wrong, and is told so in seconds.
        scorers = build_scorers(config, run, reward, None if model is None else model.device)
        from soc_ft.training.session import carry_out

        return carry_out(config, run, folder, scorers, origin or Origin(), preemption, model)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the libraries' own announcements out of the way of the run's messages.

    Lightning, which sets its own level when it is imported, is silenced where its trainer is built.
    """
    verbosity = {f"{name.upper()}_VERBOSITY": "error" for name in _TALKATIVE}
    before = {name: os.environ.get(name) for name in verbosity}
    os.environ.update(verbosity)  # which they read when they are imported
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)  # if they are already
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
