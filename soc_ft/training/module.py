"""The Lightning module: one training step is one optimizer step of a method."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from soc_ft.config.schema import RunConfig
from soc_ft.core import ReplayBuffer
from soc_ft.distributed import gather, gather_rows, sum_gradients
from soc_ft.errors import RunError
from soc_ft.feedback import Feedback
from soc_ft.feedback.base import Circumstances
from soc_ft.methods import Batch, Method
from soc_ft.methods.problem import Problem
from soc_ft.models.model import DiffusionModel
from soc_ft.profiling import peak_memory
from soc_ft.tracking.logger import RunLogger
from soc_ft.training.collector import FINITE, REWARD, Collector, logged
from soc_ft.training.importance import Importance
from soc_ft.training.optimisation import WeightAverage, build_optimizer
from soc_ft.training.regression import Regression
from soc_ft.training.validator import Validator


class RewardFineTuning(LightningModule):
    """Collects samples when the buffer is used up, and regresses on them in micro-batches.

    Optimisation is manual because a step consists of a collection, which depends on the weights,
    and of as many micro-batches as it takes.
    """

    logger: RunLogger

    def __init__(
        self,
        model: DiffusionModel,
        problem: Problem,
        method: Method,
        collector: Collector,
        validator: Validator,
        run: RunConfig,
        feedback: Feedback,
        circumstances: Circumstances,
    ) -> None:
        """Take what is needed.

        Args:
            model: the diffusion model and its fine-tuned part.
            problem: what it is together with the reward.
            method: what is collected, and the loss.
            collector: fills the buffer.
            validator: measures the model on held-out prompts.
            run: the typed configuration.
            feedback: who answers for the reward.
            circumstances: what it needs of the run.
        """
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold the trainable weights alone
        self.model = model
        self.problem = problem
        self.method = method
        self.collector = collector
        self.validator = validator
        self.run = run
        self.feedback = feedback
        self.circumstances = circumstances
        self._stage: int | None = None
        decay = run.trainer.ema
        self.average = None if decay is None else WeightAverage(decay, model.trainable_state())

    def setup(self, stage: str) -> None:
        """Make the buffer, once it is known how many processes there are."""
        self.circumstances = replace(
            self.circumstances, rank=self.global_rank, ranks=self.trainer.world_size
        )
        self.prepare_buffer(self.global_rank, self.trainer.world_size)

    def prepare_buffer(self, rank: int, ranks: int) -> None:
        """Divide the columns of the buffer over the ranks."""
        trainer, buffer = self.run.trainer, self.run.buffer
        share = trainer.batch_size // ranks
        columns = range(rank * share, (rank + 1) * share)
        self.buffer = ReplayBuffer(
            trainer.batch_size,
            buffer.batches,
            buffer.passes,
            self.run.seed,
            columns,
            self.method.needs.group_size,
        )
        self.importance = Importance(
            self.method, self.problem, buffer, self.buffer, trainer.micro_batch
        )

    def configure_optimizers(self) -> Any:
        """AdamW and the schedule of its learning rate."""
        optimizer, scheduler = build_optimizer(self.model.trainable_parameters(), self.run.trainer)
        return [optimizer], [scheduler]

    def train_dataloader(self) -> Iterable[int]:
        """Endless ticks: which samples a step uses follows from its number alone."""
        return _Ticks()

    def val_dataloader(self) -> DataLoader:
        """This rank's share of the validation rows."""
        rows = self.validator.rows_of_rank(self.global_rank, self.trainer.world_size)
        return DataLoader(rows, batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One optimizer step."""
        step = self.global_step
        begun = self._begin_stage(step)
        round_, pass_index, batch_index = self.buffer.locate(step)
        if not self.buffer.is_filled(round_):
            self.buffer.clear()
            self.feedback.begin_round()
            self._refresh_anchors("round")
            self.buffer.fill(round_, self.collector.collect(self.buffer, round_))
        rows = self.buffer.rows(round_, pass_index, batch_index)
        samples = self.collector.batch(self.buffer, round_, pass_index, rows, self.device)
        fresh = step % self.buffer.steps_per_round == 0
        stats = begun | self._regress(samples, fresh)
        if (step + 1) % self.buffer.steps_per_round == 0:
            self.buffer.clear()
        self._log_step(stats)
        if (step + 1) % self.buffer.steps_per_round == 0:
            self._stop_within_budget()

    def _stop_within_budget(self) -> None:
        if self.feedback.exhausted:
            self.trainer.should_stop = True

    def _begin_stage(self, step: int) -> dict[str, float]:
        """Let feedback begin a stage if this step is its first; what to log."""
        stage = step // (self.run.trainer.steps // self.feedback.stages)
        if stage == self._stage:
            return {}
        told = dict(self.feedback.begin_stage(stage, self.circumstances))
        self.problem.reward.to(self.device)
        self._refresh_anchors("stage")
        if stage:
            optimizer: Any = self.optimizers()
            optimizer.optimizer.state.clear()  # its moments are of another objective
        self._stage = stage
        return told

    def _refresh_anchors(self, when: str) -> None:
        for anchor in self.method.needs.anchors:
            if anchor.refresh == when:
                self.model.networks.refresh_anchor(anchor.name, anchor.decay)

    def _regress(self, samples: Batch, fresh: bool) -> dict[str, float]:
        """Accumulate the gradient over micro-batches, step the optimizer; what to log."""
        finite = samples.tensors[FINITE]
        batch = self.pairs_of(samples, torch.arange(len(finite), device=finite.device))
        counted = finite[batch.rows]
        weights, stats = self.importance.of(batch, finite, fresh)
        weights = counted.float() if weights is None else weights.flatten().float() * counted
        slots = self.method.pairs_per_sample(self.problem.process.num_steps)
        pairs = self.run.trainer.batch_size * slots

        parameters = list(self.model.trainable_parameters())
        micro_batch = self.run.trainer.micro_batch
        regression = Regression(
            self.method, self.problem, parameters, micro_batch, self.manual_backward
        )
        with self.problem.clock.phase("regression"), self._no_automatic_sync():
            terms = regression.accumulate(batch, weights, pairs)
        measured = (counted & terms.loss.isfinite()).nonzero().flatten()
        per_pair = {name: values[measured] for name, values in terms.stats.items()}
        per_pair["loss"] = terms.loss[measured]
        notes = {name: values[measured] for name, values in terms.notes.items()}
        stats |= self._summarise(samples, per_pair, notes, pairs)
        with self.problem.clock.phase("optimizer"):
            stats |= self._optimize(parameters)
        self._refresh_anchors("step")
        return stats

    def pairs_of(self, samples: Batch, rows: Tensor) -> Batch:
        """All pairs of some of the samples."""
        slots = self.method.pairs_per_sample(self.problem.process.num_steps)
        return replace(
            samples,
            rows=rows.repeat_interleave(slots),
            slots=torch.arange(slots, device=rows.device).repeat(len(rows)),
        )

    def _no_automatic_sync(self) -> AbstractContextManager[None]:
        """Keep DDP from reducing gradients in every micro-batch: it is done once, by hand."""
        block = getattr(self.trainer.strategy, "block_backward_sync", contextlib.nullcontext)
        return block()

    def _optimize(self, parameters: list[torch.nn.Parameter]) -> dict[str, float]:
        """Sum the gradients of all ranks, clip, and step.

        Raises:
            RunError: the gradient is not finite.
        """
        step = self.global_step  # Lightning counts on when the optimizer steps
        sum_gradients(parameters)
        limit = self.run.trainer.gradient_clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
        if not math.isfinite(norm):
            raise RunError(
                f"optimizer step {step}: the gradient is not finite although all "
                "losses are; lower trainer.lr, or use trainer.precision=32-true. The checkpoints "
                "are intact"
            )
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        if self.average is not None:
            self.average.update(step, self.model.trainable_state())
        return {"grad_norm": norm, "lr": lr}

    def _summarise(
        self,
        samples: Batch,
        per_pair: dict[str, Tensor],
        notes: dict[str, Tensor],
        pairs: int,
    ) -> dict[str, float]:
        """Means over the samples and pairs of all ranks that are finite.

        Raises:
            RunError: too many samples were dropped.
        """
        finite = samples.tensors[FINITE]
        per_sample = {
            name: values[finite]
            for name, values in (
                {REWARD: samples.tensors[REWARD]} | logged(samples.tensors)
            ).items()
        }
        everyone = gather_rows(per_sample | per_pair)
        losses = everyone["loss"]
        dropped = 1 - len(losses) / pairs
        if dropped > self.run.trainer.max_dropped or not len(losses):
            raise RunError(
                f"optimizer step {self.global_step}: {dropped:.0%} of the samples have a reward, "
                "gradient or loss that is not finite, more than "
                f"trainer.max_dropped={self.run.trainer.max_dropped:g}; the checkpoints are intact"
            )
        stats: dict[str, float] = {}
        for name, values in everyone.items():
            stats |= {name: float(values.mean())} if values.dim() == 1 else _profile(name, values)
        stats["reward_std"] = float(everyone["reward"].std(correction=0))
        stats["dropped_share"] = dropped
        if "control_cost" in stats:
            scale = self.problem.reward_scale
            stats["objective"] = scale * stats["reward"] - stats["control_cost"]
        return stats | self.method.finish_step(losses, gather_rows(notes))

    def _log_step(self, stats: dict[str, float]) -> None:
        shown: dict[str, Any] = {
            name: stats[name] for name in ("reward", "control_cost") if name in stats
        }
        self.log_dict(shown, prog_bar=True, logger=False)
        counted = gather(self.model.counter.snapshot())
        self.model.counter.reset()
        self.feedback.count(sum(gather(self.problem.take_queries())))
        stats["reward_queries"] = float(self.feedback.take_queries())
        stats |= {
            f"evaluations_{name}": float(sum(each[name] for each in counted)) for name in counted[0]
        }
        stats |= {
            f"seconds_{name.replace(' ', '_')}": seconds
            for name, seconds in self.problem.clock.take().items()
        }
        stats["peak_memory_mib"] = peak_memory() / 2**20
        self.record("train", stats)

    def record(self, stage: str, stats: dict[str, float]) -> None:
        """Write metrics of the current optimizer step to the journal."""
        metrics = {f"{stage}/{name}": value for name, value in stats.items()}
        self.logger.log_metrics(metrics, self.global_step)

    def validation_step(self, batch: list[int], batch_idx: int) -> None:
        """Sample and score some of the validation rows."""
        with self.problem.clock.phase("validation"):
            self.validator.measure(batch, last=self.global_step >= self.run.trainer.steps)

    def on_fit_start(self) -> None:
        """Bring what is no module to the device of the model."""
        self._move_along()

    def on_train_start(self) -> None:
        """A run that was stopped by its budget does not go on when it is resumed."""
        if self.global_step % self.buffer.steps_per_round == 0:
            self._stop_within_budget()

    def on_validation_start(self) -> None:
        """Bring what is no module to the model's device; measure the average of the weights."""
        self._move_along()
        self._exchange_average()

    def _move_along(self) -> None:
        rewards = self.problem.reward, self.validator.problem.reward
        for each in (*rewards, *self.validator.scorers(), self.average, self.feedback):
            if each is not None:
                each.to(self.device)

    def _exchange_average(self) -> None:
        if self.average is not None:
            self.average.exchange(self.model.trainable_state())

    def final_weights(self) -> dict[str, Tensor]:
        """The weights that are validated, kept and exported: the average if there is one."""
        return self.model.trainable_state() if self.average is None else self.average.weights

    def finish(self) -> None:
        """Leave the final weights in the model; it is not trained on."""
        self.model.load_trainable_state(self.final_weights())
        self.average = None

    def on_validation_epoch_end(self) -> None:
        """Combine the ranks' measurements, log them and draw the sample sheet."""
        self._exchange_average()
        result = self.validator.finish()
        self.validator.results[self.global_step] = result.metrics()
        self.problem.clock.take()
        self.validator.problem.take_queries()
        self.model.counter.reset()
        self.log("val/reward", result.reward.mean, logger=False, rank_zero_only=True)
        if self.trainer.is_global_zero:
            self.record("val", result.metrics())
            self.validator.draw_sheet(result, self.global_step, self.logger)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Everything that a resumed run needs beside what Lightning saves."""
        checkpoint["state_dict"] = self.final_weights()
        checkpoint["soc_ft"] = {
            "trained": None if self.average is None else self.model.trainable_state(),
            "method": self.method.state_dict(),
            "feedback": self.feedback.state_dict(),
            "stage": self._stage,
            "anchors": self.model.anchor_states(),
            "validator": self.validator.state_dict(),
            "journal": self.logger.position(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on exactly where the checkpoint was written."""
        state = checkpoint["soc_ft"]
        final, trained = checkpoint.pop("state_dict"), state["trained"]
        checkpoint["state_dict"] = {}
        if self.average is not None:
            self.average.weights = {name: final[name].clone() for name in self.average.weights}
        self.model.load_trainable_state(trained or final)
        self.method.load_state_dict(state["method"])
        self.feedback.load_state_dict(state["feedback"])
        self._stage = state["stage"]
        self.model.load_anchor_states(state["anchors"])
        self.validator.load_state_dict(state["validator"])
        self.logger.rewind(state["journal"])


def _profile(name: str, values: Tensor) -> dict[str, float]:
    """Means by step of the trajectory, (B, n) with zero where a sample was not measured."""
    counts = (values != 0).sum(dim=0)
    means = values.sum(dim=0) / counts
    return {f"{name}/{k:02d}": float(means[k]) for k in counts.nonzero().flatten().tolist()}


class _Ticks:
    """Yields zeros for ever; unlike a generator it can be iterated again."""

    def __iter__(self) -> Iterator[int]:
        return itertools.repeat(0)
