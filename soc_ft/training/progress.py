"""The progress bar: optimizer steps, reward, control cost, time left."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class Progress(TQDMProgressBar):
    """One bar for the run; validations show their own beneath it while they last."""

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
