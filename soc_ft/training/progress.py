"""The progress bar, and after the first optimizer step what a step costs and the run will take."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

_OF_EVERY_STEP = ("regression", "optimizer", "importance_weights")
"""Phases that are not part of a collection."""


class Progress(TQDMProgressBar):
    """One bar for the run; validations show their own beneath it while they last."""

    def __init__(self) -> None:
        """Measure nothing yet."""
        super().__init__()
        self._began: float | None = None
        self._validation_began = 0.0
        self._validation = 0.0
        self._estimated = False

    def init_train_tqdm(self) -> Tqdm:
        """A bar whose end is the last optimizer step: the loader itself is endless."""
        bar = super().init_train_tqdm()
        bar.bar_format = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        return bar

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        """Begin where a resumed run goes on."""
        super().on_train_start(trainer, *args)
        self._set_train_bar(trainer)  # a resumed run begins in the middle of its only epoch

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """The only epoch has the length of the run."""
        super().on_train_epoch_start(trainer, *args)
        self._set_train_bar(trainer)

    def _set_train_bar(self, trainer: Trainer) -> None:
        self.train_progress_bar.reset(trainer.max_steps)
        self.train_progress_bar.initial = trainer.global_step
        self.train_progress_bar.n = trainer.global_step
        self.train_progress_bar.set_description("Fine-tuning")

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Time the first step."""
        super().on_train_batch_start(trainer, *args)
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Say once what a step costs, and what that means for the run."""
        super().on_train_batch_end(trainer, *args)
        if self._estimated or self._began is None or not trainer.is_global_zero:
            return
        self._estimated = True
        self.print(self._estimate(trainer, time.monotonic() - self._began))

    def on_validation_start(self, trainer: Trainer, *args: Any) -> None:
        """Time it: there will be more."""
        super().on_validation_start(trainer, *args)
        self._validation_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, *args: Any) -> None:
        """Of a measurement, how long it took."""
        super().on_validation_end(trainer, *args)
        self._validation = time.monotonic() - self._validation_began

    def _estimate(self, trainer: Trainer, seconds: float) -> str:
        module: Any = trainer.lightning_module
        measured = module.logger.journal.read()[-1].metrics
        step, last, every = trainer.global_step, trainer.max_steps, module.run.validation.every
        validations = last // every - (step - 1) // every
        if module.run.validation.at_end and last % every:
            validations += 1
        per_round = module.buffer.steps_per_round
        remaining = remaining_seconds(
            seconds, _collecting(measured, seconds, per_round), step, last, per_round
        )
        evaluations = " and ".join(
            f"{measured[f'train/evaluations_{way}']:,.0f} {way}" for way in ("forward", "backward")
        )
        also = f" and {validations} validations" if validations else ""
        return (
            f"Optimizer step {step}: {duration(seconds)}, {evaluations} network evaluations; "
            f"{last - step} more{also} will take about "
            f"{duration(remaining + validations * self._validation)}"
        )

    def on_exception(self, *args: Any) -> None:
        """Leave the terminal to what is said of it."""
        for bar in (self._val_progress_bar, self._train_progress_bar):
            if bar is not None:
                bar.close()

    def on_validation_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Say what is validated."""
        super().on_validation_batch_start(trainer, *args, **kwargs)
        of = f"step {trainer.global_step}" if trainer.global_step else "base model"
        self.val_progress_bar.set_description(f"Validating {of}")

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


def _collecting(measured: Mapping[str, float], seconds: float, per_round: int) -> float:
    """Seconds of a step that are spent once a round."""
    if per_round == 1:
        return 0.0
    return seconds - sum(measured.get(f"train/seconds_{phase}", 0.0) for phase in _OF_EVERY_STEP)


def remaining_seconds(
    seconds: float, collecting: float, step: int, last: int, per_round: int
) -> float:
    """What the optimizer steps after ``step`` will take.

    Args:
        seconds: that this step took.
        collecting: those of them that are spent once a round.
        step: number of this step, from 1.
        last: number of the last one.
        per_round: steps that use one collection.
    """
    rounds = math.ceil(last / per_round) - math.ceil(step / per_round)
    return (last - step) * (seconds - collecting) + rounds * collecting


def duration(seconds: float) -> str:
    """A time as a person says it: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
