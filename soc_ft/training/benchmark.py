"""Timing optimizer steps against the network evaluations they consist of."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from soc_ft.config.schema import RunConfig
from soc_ft.core import Condition
from soc_ft.layout import JOURNAL_FILE
from soc_ft.models.model import DiffusionModel
from soc_ft.profiling import (
    Clock,
    EvaluationCounter,
    peak_memory,
    reset_peak_memory,
    synchronize,
)
from soc_ft.records.journal import Journal
from soc_ft.rewards.base import awaits_statistics
from soc_ft.tracking.logger import RunLogger
from soc_ft.training.building import build_checkpoints, build_module, build_trainer
from soc_ft.training.scorers import Scorers

EVALUATING = ("rollout", "adjoint", "regression")
"""Phases that consist of network evaluations."""


@dataclass(frozen=True)
class Call:
    """One way to call the network: in which phase, its batch, and whether backward follows."""

    phase: str
    batch: int
    with_gradient: bool


@dataclass(frozen=True)
class Cost:
    """Cost of an optimizer step, averaged over the timed ones.

    Attributes:
        device: what it ran on.
        samples: trajectories of an optimizer step.
        seconds: by phase.
        ideal: seconds by phase if its evaluations alone cost anything, each at the speed that it
            has in a loop of its own, at the same batch size and precision.
        cpu_seconds, cpu_ideal: the same in CPU time of the process, which others on the machine
            do not stretch.
        forward, backward: network evaluations.
        memory: peak by phase in bytes: of the allocator on a GPU, of the process on a CPU.
    """

    device: str
    samples: int
    seconds: dict[str, float]
    ideal: dict[str, float]
    cpu_seconds: dict[str, float]
    cpu_ideal: dict[str, float]
    forward: float
    backward: float
    memory: dict[str, int]

    @property
    def overhead(self) -> float:
        """Time beyond the evaluations, in the phases that consist of them, as a share of these."""
        return _beyond(self.seconds, self.ideal)

    @property
    def cpu_overhead(self) -> float:
        """The same in CPU time."""
        return _beyond(self.cpu_seconds, self.cpu_ideal)

    def report(self) -> str:
        """A table for the terminal."""
        total = sum(self.seconds.values())
        cpu_total = sum(self.cpu_seconds.values())
        lines = [
            f"{'phase':<20}{'seconds':>9}{'share':>8}{'ideal':>9}"
            f"{'CPU s':>9}{'ideal':>9}{'peak MiB':>10}"
        ]
        for phase, seconds in self.seconds.items():
            ideals = (self.ideal.get(phase), self.cpu_ideal.get(phase))
            ideal, cpu_ideal = ("" if each is None else f"{each:.3f}" for each in ideals)
            peak = f"{self.memory[phase] / 2**20:.0f}"
            lines.append(
                f"{phase:<20}{seconds:>9.3f}{seconds / total:>8.1%}{ideal:>9}"
                f"{self.cpu_seconds[phase]:>9.3f}{cpu_ideal:>9}{peak:>10}"
            )
        lines += [
            f"{'total':<20}{total:>9.3f}{'':>17}{cpu_total:>9.3f}",
            "",
            f"device: {self.device}; {self.samples} trajectories an optimizer step",
            f"network evaluations per trajectory: {self.forward / self.samples:g} forward, "
            f"{self.backward / self.samples:g} backward",
            f"{', '.join(self.ideal)} take {self.overhead:+.1%} more than their evaluations alone, "
            f"in CPU time {self.cpu_overhead:+.1%}; on a CPU that is busy elsewhere the two differ",
        ]
        return "\n".join(lines)


class ProfilingClock(Clock):
    """Notes the peak memory of phases as well, and their CPU time by optimizer step."""

    def __init__(self) -> None:
        """Start in no phase."""
        super().__init__()
        self.current = ""
        self.memory: dict[str, int] = defaultdict(int)
        self.cpu_seconds: dict[str, float] = defaultdict(float)
        self.cpu_steps: list[dict[str, float]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        reset_peak_memory()
        self.current = name
        with super().phase(name):
            start = time.process_time()
            yield
            synchronize()
            self.cpu_seconds[name] += time.process_time() - start
        self.memory[name] = max(self.memory[name], peak_memory())

    def take(self) -> dict[str, float]:
        """The wall-clock seconds of an optimizer step; its CPU seconds are kept."""
        self.cpu_steps.append(dict(self.cpu_seconds))
        self.cpu_seconds.clear()
        return super().take()


class CallRecorder(EvaluationCounter):
    """Counts network calls by phase and batch size, beside the evaluations."""

    def __init__(self, clock: ProfilingClock) -> None:
        """Count by the phases of a clock."""
        super().__init__()
        self.clock = clock
        self.calls: Counter[Call] = Counter()

    def record(self, output: Tensor) -> None:
        """Note the call that gave ``output``."""
        super().record(output)
        self.calls[Call(self.clock.current, len(output), output.requires_grad)] += 1


def measure(
    config: DictConfig, run: RunConfig, scorers: Scorers, steps: int, evaluations: int
) -> Cost:
    """Time ``steps`` optimizer steps, after one that warms up, and their evaluations.

    Args:
        config: a configuration of ``python -m soc_ft``.
        run: the same, validated.
        scorers: what scores its pictures.
        steps: optimizer steps that are timed.
        evaluations: repetitions that the time of an evaluation is the median of.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = run.model_copy(deep=True)
        run.trainer.steps = steps + 1
        run.validation.every = steps + 2
        module = build_module(config, run, folder, scorers)
        if awaits_statistics(scorers.reward):  # raw scores cost the same
            module.validator.problem.reward = scorers.reward.standardised_by({})
        clock = module.problem.clock = ProfilingClock()
        recorder = module.model.counter = CallRecorder(clock)
        run.trainer.checkpoint_every = steps + 2
        checkpoints = build_checkpoints(run, folder)
        trainer = build_trainer(run, folder, RunLogger(folder), checkpoints)
        trainer.fit(module, weights_only=True)
        timed = [record.metrics for record in Journal(folder / JOURNAL_FILE).read()][1:]
    device = trainer.strategy.root_device
    module.to(device)
    seconds = {
        name.removeprefix("train/seconds_").replace("_", " "): _mean(timed, name)
        for name in timed[0]
        if name.startswith("train/seconds_")
    }
    evaluating = [phase for phase in EVALUATING if phase in seconds]  # not every method has each
    ideal, cpu_ideal = (dict.fromkeys(evaluating, 0.0) for _ in range(2))
    for call, number in recorder.calls.items():
        if call.phase in ideal:
            # The precision of the phases.
            with trainer.precision_plugin.train_step_context():
                each, cpu_each = _evaluation_seconds(module.model, call, evaluations)
            ideal[call.phase] += each * number / (steps + 1)
            cpu_ideal[call.phase] += cpu_each * number / (steps + 1)
    return Cost(
        device=torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads",
        samples=run.trainer.batch_size,
        seconds=seconds,
        ideal=ideal,
        cpu_seconds={phase: _mean(clock.cpu_steps[1:], phase) for phase in seconds},
        cpu_ideal=cpu_ideal,
        forward=_mean(timed, "train/evaluations_forward"),
        backward=_mean(timed, "train/evaluations_backward"),
        memory=dict(clock.memory),
    )


def _mean(records: list[dict[str, float]], name: str) -> float:
    return statistics.fmean(record.get(name, 0.0) for record in records)


def _beyond(seconds: Mapping[str, float], ideal: Mapping[str, float]) -> float:
    return sum(seconds[phase] for phase in ideal) / sum(ideal.values()) - 1


def _evaluation_seconds(model: DiffusionModel, call: Call, repetitions: int) -> tuple[float, float]:
    """Median seconds of one network call like ``call``, alone in a loop, and of its CPU time."""
    device = model.device
    x = torch.randn(call.batch, *model.latent_shape, device=device)
    t = torch.full((call.batch,), 500.0, device=device)
    condition = Condition.cat([model.null_condition()] * call.batch)
    evaluate = _evaluation(model, call, x, t, condition)
    durations = []
    for _ in range(repetitions + 1):
        synchronize()
        start, cpu_start = time.perf_counter(), time.process_time()
        evaluate()
        synchronize()
        durations.append((time.perf_counter() - start, time.process_time() - cpu_start))
    wall, cpu = zip(*durations[1:], strict=True)
    return statistics.median(wall), statistics.median(cpu)


def _evaluation(
    model: DiffusionModel, call: Call, x: Tensor, t: Tensor, condition: Condition
) -> Callable[[], None]:
    """The call as the phase makes it: without gradient, with a VJP, or with a weight gradient."""
    networks = model.networks

    def forward() -> None:
        with torch.no_grad():
            networks.trained_output(x, t, condition)

    def vector_jacobian_product() -> None:
        leaf = x.detach().requires_grad_()
        output = networks.base_output(leaf, t, condition)
        torch.autograd.grad(output, leaf, torch.ones_like(output))

    def weight_gradient() -> None:
        networks.trained_output(x, t, condition).sum().backward()

    if not call.with_gradient:
        return forward
    return vector_jacobian_product if call.phase == "adjoint" else weight_gradient
