"""The gradient of an optimizer batch, accumulated over micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from soc_ft.methods import Batch, Method, Terms
from soc_ft.methods.problem import Problem, chunks


@dataclass(frozen=True)
class Regression:
    """Adds up gradients of weighted losses without waiting for the device in between.

    Every rank calls the networks equally often: pairs that do not count are evaluated all the same.

    Attributes:
        method: gives the loss.
        problem: what it is asked about.
        parameters: whose gradients are meant.
        micro_batch: pairs in one forward and backward.
        backward: adds the gradient of a scalar.
    """

    method: Method
    problem: Problem
    parameters: Sequence[nn.Parameter]
    micro_batch: int
    backward: Callable[[Tensor], object]

    def accumulate(self, batch: Batch, weights: Tensor, total: int) -> Terms:
        """Set the gradients to that of the sum of weight times loss / total.

        Pairs whose loss is not finite are left out.

        Args:
            batch: N pairs.
            weights: (N,), 0 for those that do not count.
            total: what the sum is divided by.

        Returns:
            The losses and numbers of all N pairs, detached.
        """
        self._zero_gradients()
        terms = self._add(batch, weights, total)
        finite = terms.loss.isfinite()
        if self.problem.most(int(not finite.all())):
            # A weight of zero would not do: zero times an infinite derivative is not a number.
            self._zero_gradients()
            stand_in = finite.nonzero().flatten()[:1]
            places = torch.arange(len(batch), device=finite.device)
            if len(stand_in):
                places = torch.where(finite, places, stand_in)
            self._add(batch.select(places), torch.where(finite, weights, 0.0), total)
            if not len(stand_in):
                self._zero_gradients()
        return terms

    def _add(self, batch: Batch, weights: Tensor, total: int) -> Terms:
        measured = []
        for part in chunks(len(batch), self.micro_batch):
            terms = self.method.loss(self.problem, batch.select(part))
            loss = terms.loss
            if terms.weight is not None:
                loss = loss * terms.weight
            self.backward((loss * weights[part]).sum() / total)
            measured.append(Terms(terms.loss.detach(), terms.stats, notes=terms.notes))
        return Terms(
            torch.cat([terms.loss for terms in measured]),
            _joined([terms.stats for terms in measured]),
            notes=_joined([terms.notes for terms in measured]),
        )

    def _zero_gradients(self) -> None:
        """Every rank holds every gradient, also one that no loss of its own reaches."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.zero_()


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Numbers of all pairs from those of the micro-batches."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
