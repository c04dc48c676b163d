"""Weights of samples that an earlier model drew, and how many samples they are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from soc_ft.config.schema import Buffer
from soc_ft.core import ReplayBuffer, effective_sample_size, normalised_weights, span_log_weights
from soc_ft.core.weights import Span
from soc_ft.distributed import gather_rows
from soc_ft.methods import Batch, Method
from soc_ft.methods.problem import Problem, chunks

_PROBES = 16
"""Pairs of an optimizer batch that its effective sample size is estimated from, if only that."""


def transitions_to_keep(settings: Buffer, method: Method) -> Literal["none", "own", "all"]:
    """Which transitions have to be collected for what will be asked of them."""
    if not method.needs.importance or settings.batches * settings.passes == 1:
        return "none"
    if settings.importance in ("future", "path"):
        return "all"
    return "own" if settings.importance == "step" or settings.log_ess else "none"


@dataclass
class Importance:
    """Self-normalised weights of the pairs of an optimizer batch.

    The ratios compare the laws that sample. ``step`` is the ratio of a pair's own transition,
    ``future`` the product of its own and later ones, ``path`` of all; ``core.span_log_weights``
    says what that corrects. The weights of ``future`` are normalised step by step over all samples
    of the batch, so that early steps, whose weights vary most, cannot drown late ones.

    Attributes:
        method: gives the ratios.
        problem: what was sampled.
        settings: which weights.
        buffer: knows the places of this rank's samples in the batch.
        micro_batch: transitions that are evaluated together.
    """

    method: Method
    problem: Problem
    settings: Buffer
    buffer: ReplayBuffer
    micro_batch: int

    def of(
        self, pairs: Batch, finite: Tensor, fresh: bool
    ) -> tuple[Tensor | None, dict[str, float]]:
        """Weights of all pairs of this rank, and the effective sample size.

        Args:
            pairs: B S pairs, those of a sample side by side.
            finite: (B,) bool, the samples that count.
            fresh: whether the model that sampled has not moved yet.

        Returns:
            (B, S) with mean one over the samples of all ranks that count, or None for equal
            weights; and what to log, as a share of the number of samples.
        """
        if transitions_to_keep(self.settings, self.method) == "none":
            return None, {}
        if fresh:
            return None, {"ess_share": 1.0}
        kind = self.settings.importance
        if kind == "none":
            return None, self._probed(pairs, finite)
        return self._weights(pairs, finite, None if kind == "step" else kind)

    def _weights(
        self, pairs: Batch, finite: Tensor, span: Span | None
    ) -> tuple[Tensor, dict[str, float]]:
        """Weights from ratios of spans of the trajectories; None is the pairs' own transitions."""
        samples = len(finite)
        own = self._of_trajectories(pairs, samples) if span else self._ratios(pairs)
        everyone = gather_rows({"log": own.view(samples, -1), "counts": finite})
        counted = everyone["log"][everyone["counts"]]
        log_weights = span_log_weights(counted, span) if span else counted.view(-1, 1)
        shares = effective_sample_size(log_weights) / len(log_weights)
        stats = {"ess_share": float(shares.mean())}
        if span == "future":
            stats |= {f"ess_share/{k:02d}": share for k, share in enumerate(shares.tolist())}
        weights = torch.zeros_like(everyone["log"])
        weights[everyone["counts"]] = normalised_weights(log_weights).view_as(counted)
        columns = self.buffer.columns
        ranks = weights.unflatten(0, (-1, samples))
        found = ranks[columns.start // len(columns)].to(finite.device)
        if span:
            found = found.gather(1, self.method.steps_of(pairs).view(samples, -1))
        return found, stats

    def _probed(self, pairs: Batch, finite: Tensor) -> dict[str, float]:
        """Of a few pairs, spread over the batch: the same ones however many ranks divide it."""
        slots = len(pairs) // len(finite)
        size, columns = self.buffer.batch_size, self.buffer.columns
        probed = {i * size // _PROBES for i in range(_PROBES)}
        chosen = [
            (column - columns.start) * slots + column % slots
            for column in columns
            if column in probed
        ]
        padded = chosen + [0] * (self.problem.most(len(chosen)) - len(chosen))
        places = torch.tensor(padded, dtype=torch.int64, device=pairs.rows.device)
        counts = finite[places // slots]
        counts[len(chosen) :] = False
        everyone = gather_rows({"log": self._ratios(pairs.select(places)), "counts": counts})
        counted = everyone["log"][everyone["counts"]]
        if not len(counted):
            return {}
        return {"ess_share": float(effective_sample_size(counted)) / len(counted)}

    def _of_trajectories(self, pairs: Batch, samples: int) -> Tensor:
        """(B K,) log ratios of all transitions."""
        steps = self.problem.process.num_steps
        rows = torch.arange(samples, device=pairs.rows.device).repeat_interleave(steps)
        everything = replace(pairs, rows=rows, slots=torch.zeros_like(rows))
        return self._ratios(everything, torch.arange(steps, device=rows.device).repeat(samples))

    def _ratios(self, batch: Batch, steps: Tensor | None = None) -> Tensor:
        """(N,) float64 on the CPU; what is not a number counts for nothing."""
        with self.problem.clock.phase("importance weights"):
            parts = [
                self.method.log_ratio(
                    self.problem, batch.select(part), None if steps is None else steps[part]
                )
                for part in chunks(len(batch), self.micro_batch)
            ]
            ratios = torch.cat(parts) if parts else torch.zeros(0)
            return ratios.nan_to_num(nan=-math.inf).cpu().double()
