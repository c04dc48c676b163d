"""Weights of reused samples, from ratios that are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from soc_ft import core
from soc_ft.config.schema import Buffer
from soc_ft.core import Condition, ReplayBuffer
from soc_ft.methods import Batch, Experience, Method, Needs, Terms
from soc_ft.methods.problem import Problem
from soc_ft.profiling import Clock
from soc_ft.training import importance
from soc_ft.training.importance import Importance, transitions_to_keep
from tests.core.closed_forms import cosine_process

SAMPLES, SLOTS, STEPS = 6, 2, 5
DRAWN = torch.tensor([[0, 3], [1, 2], [2, 4], [0, 4], [1, 3], [3, 4]])
RATIOS = core.normal((STEPS,), 0, "ratios", [(i,) for i in range(SAMPLES)], torch.float64)
FINITE = torch.tensor([True, True, False, True, True, True])


class Known(Method):
    """A method whose ratios are those of :data:`RATIOS`."""

    needs = Needs(importance=True)
    asked = 0

    def collect(self, *_: Any) -> Experience:
        raise NotImplementedError

    def loss(self, *_: Any) -> Terms:
        raise NotImplementedError

    def steps_of(self, batch: Batch) -> Tensor:
        return batch.slot("steps")

    def log_ratio(self, problem: Problem, batch: Batch, steps: Tensor | None = None) -> Tensor:
        self.asked += len(batch)
        steps = self.steps_of(batch) if steps is None else steps
        return batch["ratios"].gather(1, steps[:, None])[:, 0]


class _Problem:
    process = cosine_process(STEPS)
    clock = Clock()

    def most(self, number: int) -> int:
        return number


def weighing(kind: str, columns: range = range(SAMPLES), **settings: Any) -> Importance:
    buffer = Buffer(
        **{"batches": 2, "passes": 2, "log_ess": False, "device": None}
        | settings
        | {"importance": kind}
    )
    place = ReplayBuffer(SAMPLES, 2, 2, 0, columns)
    return Importance(Known(), _Problem(), buffer, place, micro_batch=4)  # type: ignore[arg-type]


def pairs(columns: range = range(SAMPLES)) -> Batch:
    own = slice(columns.start, columns.stop)
    rows = torch.arange(len(columns)).repeat_interleave(SLOTS)
    return Batch(
        tensors={"steps": DRAWN[own, None], "ratios": RATIOS[own]},
        conditions=Condition(nothing=torch.zeros(len(columns), 1)),
        sample_prompts=[""] * len(columns),
        addresses=[(0, column) for column in columns],
        seed=0,
        pass_index=0,
        rows=rows,
        slots=torch.arange(SLOTS).repeat(len(columns)),
    )


def expected(kind: str) -> tuple[Tensor, Tensor]:
    """(SAMPLES, SLOTS) weights and the effective sample sizes, pair by pair."""
    ratio = RATIOS.exp()
    weights = torch.zeros(SAMPLES, SLOTS, dtype=torch.float64)
    counting = FINITE.nonzero().flatten().tolist()
    if kind == "step":
        everyone = torch.stack([ratio[i, DRAWN[i, s]] for i in counting for s in range(SLOTS)])
        sizes = everyone.sum() ** 2 / (everyone**2).sum() / len(everyone)
    else:
        first = range(STEPS) if kind == "future" else [0] * STEPS
        products = torch.stack([ratio[counting, k:].prod(dim=1) for k in first], dim=1)
        sizes = products.sum(0) ** 2 / (products**2).sum(0) / len(counting)
    for row, i in enumerate(counting):
        for s in range(SLOTS):
            k = DRAWN[i, s]
            if kind == "step":
                weights[i, s] = ratio[i, k] / everyone.mean()
            else:
                weights[i, s] = products[row, k] / products[:, k].mean()
    return weights, sizes


@pytest.mark.parametrize("kind", ["step", "future", "path"])
def test_each_pair_has_the_weight_of_its_transitions(kind: str) -> None:
    """Breaks when a product starts at a wrong step, a sample that does not count enters a mean, or
    a weight goes to another pair."""
    found, stats = weighing(kind).of(pairs(), FINITE, fresh=False)
    weights, sizes = expected(kind)
    assert found is not None
    torch.testing.assert_close(found, weights)
    assert stats.pop("ess_share") == pytest.approx(float(sizes.mean()))
    by_step = {f"ess_share/{k:02d}": float(size) for k, size in enumerate(sizes.view(-1))}
    assert stats == (pytest.approx(by_step) if kind == "future" else {})


@pytest.mark.parametrize("kind", ["step", "future", "path", "none"])
def test_processes_agree(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks when a process normalises by its own samples, or takes another's weights."""
    alone, stats = weighing(kind, log_ess=True).of(pairs(), FINITE, fresh=False)
    halves = [range(3), range(3, SAMPLES)]
    said: list[dict[str, Tensor]] = []

    def listen(own: dict[str, Tensor]) -> dict[str, Tensor]:
        said.append(own)
        return {name: torch.cat([values, values]) for name, values in own.items()}

    for half in halves:  # what each process has to say ...
        monkeypatch.setattr(importance, "gather_rows", listen)
        weighing(kind, half, log_ess=True).of(pairs(half), FINITE[half.start : half.stop], False)
    together = {name: torch.cat([each[name] for each in said]) for name in said[0]}
    for half in halves:  # ... and what it makes of what all have said
        monkeypatch.setattr(importance, "gather_rows", lambda own: together)
        own = weighing(kind, half, log_ess=True)
        found, theirs = own.of(pairs(half), FINITE[half.start : half.stop], fresh=False)
        assert theirs == pytest.approx(stats)
        if alone is not None:
            torch.testing.assert_close(found, alone[half.start : half.stop])


def test_the_size_alone_costs_a_few_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks when all pairs are evaluated for a diagnostic, or always the same slot."""
    monkeypatch.setattr(importance, "_PROBES", 3)
    watched = weighing("none", log_ess=True)
    weights, stats = watched.of(pairs(), FINITE, fresh=False)
    assert weights is None
    assert watched.method.asked == 3  # type: ignore[attr-defined]
    # Of the columns 0, 2 and 4, of which the second does not count, the slots 0, 0 and 0.
    ratio = torch.stack([RATIOS[0, DRAWN[0, 0]], RATIOS[4, DRAWN[4, 0]]]).exp()
    assert stats["ess_share"] == pytest.approx(float(ratio.sum() ** 2 / (ratio**2).sum() / 2))
    monkeypatch.setattr(importance, "_PROBES", 6)
    every = weighing("none", log_ess=True).of(pairs(), FINITE, fresh=False)[1]["ess_share"]
    rows = [0, 1, 3, 4, 5]
    ratio = torch.stack([RATIOS[i, DRAWN[i, i % SLOTS]] for i in rows]).exp()
    assert every == pytest.approx(float(ratio.sum() ** 2 / (ratio**2).sum() / 5))


def test_nothing_is_asked_of_samples_of_the_current_model() -> None:
    """Breaks when the first step of a round pays for ratios that are one."""
    fresh = weighing("path")
    assert fresh.of(pairs(), FINITE, fresh=True) == (None, {"ess_share": 1.0})
    silent = weighing("none")
    assert silent.of(pairs(), FINITE, fresh=False) == (None, {})
    assert fresh.method.asked == silent.method.asked == 0  # type: ignore[attr-defined]


def test_a_ratio_that_is_not_a_number_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks when one overflow makes all weights of the batch NaN."""
    broken = RATIOS.clone()
    broken[1, 2] = float("nan")
    monkeypatch.setitem(globals(), "RATIOS", broken)
    found, _ = weighing("path").of(pairs(), FINITE, fresh=False)
    assert found is not None
    assert found.isfinite().all()
    assert (found[1] == 0).all()
    assert found[FINITE].mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"importance": "none", "log_ess": False}, "none"),
        ({"importance": "none", "log_ess": True}, "own"),
        ({"importance": "step", "log_ess": False}, "own"),
        ({"importance": "future", "log_ess": False}, "all"),
        ({"importance": "path", "log_ess": True}, "all"),
        ({"importance": "path", "log_ess": True, "batches": 1, "passes": 1}, "none"),
    ],
)
def test_what_is_collected_is_what_will_be_asked_for(settings: dict[str, Any], kept: str) -> None:
    """Breaks when whole trajectories are kept for the ratio of one transition, or too little."""
    kind = settings.pop("importance")
    weighed = weighing(kind, **settings)
    assert transitions_to_keep(weighed.settings, weighed.method) == kept

    class Without(Known):
        needs = Needs()

    assert transitions_to_keep(weighed.settings, Without()) == "none"
