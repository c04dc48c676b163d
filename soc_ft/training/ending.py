"""However a run ends: what is told, what is kept, and which processes end with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from soc_ft.distributed import tells_of_a_lost_process
from soc_ft.errors import AwaitingAnswers, Interrupted, Preempted, RunError, WriteError
from soc_ft.files import displayed
from soc_ft.layout import (
    CHOICES_FILE,
    CONFIG_FILE,
    JOURNAL_FILE,
    LAST_CHECKPOINT,
    OVERRIDES_FILE,
    SAMPLE_FOLDER,
    TRACKING_FOLDER,
)
from soc_ft.tracking.logger import RunLogger
from soc_ft.training.checkpoints import Checkpoints

_BEGINNING = (CONFIG_FILE, OVERRIDES_FILE, CHOICES_FILE, JOURNAL_FILE, SAMPLE_FOLDER)
"""What a run writes before its first measurement, besides what it has to tell MLflow."""


@contextmanager
def ending(
    trainer: Trainer, logger: RunLogger, checkpoints: Checkpoints, folder: Path, resumed: bool
) -> Iterator[None]:
    """Do what the end of a run takes, whatever brings it.

    Args:
        trainer: of the run.
        logger: told the end.
        checkpoints: knows what was saved.
        folder: of the run.
        resumed: whether it goes on from a checkpoint.

    Raises:
        RunError: a file could not be written, or another process of the job has ended; says what is
            whole.
        Interrupted: as it came, saying what was saved.
    """
    is_new = not resumed and not (folder / CONFIG_FILE).is_file()
    status = "failed"
    try:
        yield
        status = "success"
    except Preempted:
        status = "preempted"
        raise
    except Interrupted as stop:
        status = "interrupted"
        if is_new and checkpoints.saved is None and logger.position() == 0:
            status = "discarded"
            said = " before the first optimizer step: nothing is left behind"
        elif checkpoints.saved == trainer.global_step:
            said = f": {_saved(checkpoints, folder)}"
        else:
            said = f" in optimizer step {trainer.global_step + 1}: {_saved(checkpoints, folder)}"
        raise Interrupted.after(stop, f"stopped by {stop.cause}{said}") from None
    except AwaitingAnswers:
        status = "interrupted"
        raise
    except WriteError as error:
        raise RunError(f"{error}; {_saved(checkpoints, folder)}") from error
    except RuntimeError as error:
        if not tells_of_a_lost_process(error):
            raise
        raise RunError(
            f"another process of the job has ended; {_saved(checkpoints, folder)}"
        ) from error
    finally:
        if status != "success":
            _end_children(trainer)
        logger.end(status)
        if status == "discarded" and trainer.is_global_zero:
            _remove_beginning(folder)


def _saved(checkpoints: Checkpoints, folder: Path) -> str:
    """What the run can go on from."""
    again = f"the same command with run_dir={displayed(folder)}"
    if checkpoints.saved is not None:
        return f"optimizer step {checkpoints.saved} is saved, and {again} goes on from it"
    if (checkpoints.folder / LAST_CHECKPOINT).is_file():
        return f"{LAST_CHECKPOINT} is as it was, and {again} goes on from it"
    return f"there is no checkpoint yet, and {again} starts over"


def _end_children(trainer: Trainer) -> None:
    """End the processes that Lightning has started: they may wait for this one for ever.

    Lightning watches them, and would take their end for a reason to kill this process.
    """
    processes: list[Any] = getattr(trainer.strategy.launcher, "procs", [])
    for process in processes:
        process.kill()
        process.wait()
    processes.clear()


def _remove_beginning(folder: Path) -> None:
    for name in (*_BEGINNING, TRACKING_FOLDER):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
