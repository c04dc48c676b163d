"""When a run is saved: a checkpoint to resume from, and weights to keep."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from soc_ft.layout import BEST_WEIGHTS, BUFFER_FOLDER, LAST_CHECKPOINT, weights_name
from soc_ft.models.weights import naming_weights, replacing_weights, save_weights
from soc_ft.training.shards import BufferShards
from soc_ft.training.stopping import Stopping, StopRequest


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint only when the new one is on disk whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write beside ``path``, then rename.

        Raises:
            WriteError: the disk is full or cannot be written; what was at ``path`` is still there.
        """
        # Into an open file, whose errors say what is wrong with the disk.
        with replacing_weights(Path(path)) as temporary, open(temporary, "wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            ConfigError: the file is damaged.
        """
        with naming_weights(Path(path)):
            return super().load_checkpoint(path, *args, **kwargs)


class Checkpoints(Callback):
    """Saves ``last.ckpt`` every few optimizer steps, the best weights, and weights to keep.

    Where a step is followed by a validation, its checkpoint is written after that, so that a
    resumed run neither skips nor repeats the validation.

    Attributes:
        saved: the optimizer step of ``last.ckpt``; None before this run has one.
        best: the largest mean reward so far.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        keep_every: int | None,
        validate_every: int,
        stage_steps: int,
        stopping: Stopping | None = None,
    ) -> None:
        """Take what is needed.

        Args:
            folder: where the files go.
            every: optimizer steps between two writes of ``last.ckpt``.
            keep_every: optimizer steps between weights that are kept, or None.
            validate_every: optimizer steps between two validations.
            stage_steps: optimizer steps of a stage of feedback, after which ``last.ckpt`` is
                written too: the questions that follow may cost more than all steps before.
            stopping: how the run is asked to stop, which it does after a save.
        """
        self.folder = folder
        self.every = every
        self.keep_every = keep_every
        self.validate_every = validate_every
        self.stage_steps = stage_steps
        self.stopping = stopping
        self.saved: int | None = None
        self.shards = BufferShards(folder / BUFFER_FOLDER)
        self.best = -math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on a request to stop waits for the end of an optimizer step."""
        if self.stopping is not None:
            self.stopping.defer()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A measurement before the first step, or after the last one, can be stopped as well."""
        if self.stopping is not None:
            self.stopping.listen()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Grant a request that came after the last step was saved."""
        if self.stopping is not None and self.stopping.release() == StopRequest.STOP:
            self.stopping.grant("its last checkpoint")

    def on_exception(self, trainer: Trainer, *args: Any) -> None:
        """There will be no end of this optimizer step to wait for."""
        if self.stopping is not None:
            self.stopping.release()

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Save a step that no validation follows."""
        if trainer.global_step % self.validate_every:
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a validated step, and the weights if their mean reward is the largest so far."""
        if trainer.global_step == 0:  # the base model, which nobody needs a copy of
            return
        reward = float(trainer.callback_metrics["val/reward"])
        if reward > self.best:
            self.best = reward
            self._save_weights(trainer, BEST_WEIGHTS)
        if trainer.state.fn == TrainerFn.FITTING:
            self._save_if_due(trainer)

    def _save_if_due(self, trainer: Trainer) -> None:
        step = trainer.global_step
        request = StopRequest.NOTHING if self.stopping is None else self.stopping.poll()
        due = step % self.every == 0 or step % self.stage_steps == 0 or step == trainer.max_steps
        if due or request != StopRequest.NOTHING:
            self.save_last(trainer)
        if self.keep_every and step % self.keep_every == 0:
            self._save_weights(trainer, weights_name(step))
        if self.stopping is not None and request == StopRequest.STOP:
            self.stopping.grant(f"optimizer step {step}")

    def save_last(self, trainer: Trainer) -> None:
        """Write the checkpoint that a run resumes from."""
        trainer.save_checkpoint(self.folder / LAST_CHECKPOINT)
        self.saved = trainer.global_step
        if trainer.is_global_zero:
            self.shards.prune()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the buffer's samples beside the checkpoint."""
        module: Any = pl_module
        checkpoint["buffer"] = self.shards.save(module.buffer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read them where the buffer keeps them, and note what the run goes on from."""
        module: Any = pl_module
        device = module.run.buffer.device or trainer.strategy.root_device
        self.shards.load(checkpoint["buffer"], module.buffer, device)
        self.saved = checkpoint["global_step"]

    def _save_weights(self, trainer: Trainer, name: str) -> None:
        if trainer.is_global_zero:
            module: Any = trainer.lightning_module
            save_weights(module.final_weights(), self.folder / name)

    def state_dict(self) -> dict[str, Any]:
        """The largest reward so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with it."""
        self.best = state_dict["best"]
