"""Several processes: any number of them, and what each has to do."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from soc_ft.methods import Batch, Terms
from soc_ft.methods.problem import Problem
from soc_ft.plain_yaml import read_mapping
from soc_ft.training.regression import Regression
from tests.conftest import TINY, command, composed, curve, untrained
from tests.rewards.test_weighted import SUM
from tests.trained import largest_difference, weights

TinyRun = Callable[..., Path]
SHORT = (
    "buffer=replay",
    "buffer.batches=1",
    "buffer.passes=2",
    "buffer.importance=step",
    "trainer.batch_size=3",
    "trainer.steps=2",
    "validation.prompts=2",
    "validation.every=2",
    "validation.at_end=false",
)


def started(folder: Path, processes: int, *overrides: str) -> Path:
    """A run of a process for each rank."""
    line = [*command("soc_ft"), "+reward.scale=20", f"trainer.devices={processes}"]
    line += [override for override in TINY if not override.startswith("reward.scale")]
    subprocess.run(
        [*line, *overrides, f"run_dir={folder}"], check=True, capture_output=True, timeout=500
    )
    return folder


def assert_same_run(one: Path, other: Path) -> None:
    counted = {"train/evaluations_forward", "train/evaluations_backward"}
    for (step, a), (same, b) in zip(curve(one), curve(other), strict=True):
        assert (step, a.keys()) == (same, b.keys())
        for name in a.keys() - counted:
            assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-4), name
    assert largest_difference(weights(one), weights(other)) < 1e-4


@pytest.mark.slow
def test_three_processes_measure_two_pictures_and_one_goes_on(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    """Breaks when a rank without a picture hangs, or another number cannot resume in a round."""
    alone = tiny_run(*SHORT, folder="alone")
    shared = started(tmp_path / "shared", 3, *SHORT, "trainer.steps=1")
    files = {path.name for path in (shared / "checkpoints" / "buffer").iterdir()}
    assert files == {f"round-000000-columns-{rank}-{rank + 1}.pt" for rank in range(3)}
    assert_same_run(alone, tiny_run(*SHORT, folder="shared"))
    assert not (shared / "checkpoints" / "buffer").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [3, 5])
def test_any_number_of_processes_gives_the_run_of_one(
    tiny_run: TinyRun, tmp_path: Path, processes: int
) -> None:
    """Breaks when rows are lost, doubled or out of order, or batches are dealt instead of rows."""
    settings = (*SHORT, "trainer.batch_size=15", "validation.prompts=4", "trainer.steps=4")
    shared = started(tmp_path / "shared", processes, *settings)
    assert_same_run(tiny_run(*settings, folder="alone"), shared)


@pytest.mark.slow
def test_two_processes_standardise_by_the_same_moments(tiny_run: TinyRun, tmp_path: Path) -> None:
    """Breaks when a process standardises by its own pictures, or does not know the moments."""
    target = "reward._target_=soc_ft.rewards.weighted.Weighted"
    settings = (*SUM, target, "~reward.scale", "reward.normalise=true", "trainer.steps=2")
    alone = tiny_run(*settings, folder="alone")
    shared = started(tmp_path / "shared", 2, *settings)
    assert_same_run(alone, shared)
    moments, same = (read_mapping(run / "reward_statistics.yaml") for run in (alone, shared))
    for name, of_part in moments.items():
        assert same[name] == pytest.approx(of_part, rel=1e-4)


@pytest.mark.slow
def test_the_recipe_of_readme_runs_on_five_processes(tmp_path: Path) -> None:
    """Breaks when the batches of a recipe cannot be divided as README says."""
    small = ("model.path=random:tiny", "reward=shapes", "tracking=none", "scheduler.num_steps=4")
    small += ("~validation.metrics.clip",)
    line = [*command("soc_ft"), "experiment=sd15_imagereward", *small, "trainer.steps=1"]
    devices = ("trainer.accelerator=cpu", "trainer.devices=5", "trainer.threads=1")
    subprocess.run(
        [*line, *devices, f"run_dir={tmp_path}"], check=True, capture_output=True, timeout=580
    )
    assert (tmp_path / "results.json").is_file()
    assert (tmp_path / "model").is_dir()


@pytest.fixture(scope="module")
def validator() -> Any:
    config = composed(*TINY, "validation.prompts=3", "validation.batch_size=2")
    return untrained(config).validator


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 6, 7, 20])
def test_rows_are_dealt_and_batches_are_alike(validator: Any, ranks: int) -> None:
    """Breaks when a rank has another number of batches than the others, or a row has no rank."""
    dealt = [validator.rows_of_rank(rank, ranks) for rank in range(ranks)]
    assert len({tuple(map(len, batches)) for batches in dealt}) == 1
    rows = [row for batches in dealt for batch in batches for row in batch]
    assert set(rows) == set(range(6))
    assert len(rows) < 6 + ranks
    if ranks == 1:
        assert dealt == [[[0, 1], [2, 3], [4, 5]]]


def test_held_out_pictures_without_a_finite_score_are_counted(
    validator: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Breaks when means that are NaN appear without a word, or the word comes at every step."""
    fresh = replace(validator)
    broken = torch.tensor([True, False, True, False, False, True])
    for _ in ("base model", "fine-tuned"):
        for rows in ([0, 1, 2, 3], [4, 5]):
            fresh.measure(rows)
            fresh._measured[-1]["reward"][broken[rows]] = torch.nan
        fresh.finish()
    assert caplog.messages == [
        "reward redness: 3 of 6 held-out pictures of the base model have no finite score; means "
        "over them have none either"
    ]


class Squares:
    """Losses (parameter - target)^2; a target that is not finite gives none."""

    def __init__(self) -> None:
        self.parameter = nn.Parameter(torch.tensor(1.0))
        self.calls = 0

    def loss(self, problem: Problem, batch: Any) -> Terms:
        self.calls += 1
        loss = (self.parameter - batch.targets).square()
        return Terms(loss, {"twice": 2 * loss.detach()}, batch.targets < 100)


class Targets:
    """What a regression asks of a batch."""

    def __init__(self, targets: Tensor) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, pairs: slice | Tensor) -> Targets:
        return Targets(self.targets[pairs])


class Ranks:
    """Another process, which has found a loss that is not finite, or has not."""

    def __init__(self, other: int) -> None:
        self.other = other

    def most(self, number: int) -> int:
        return max(number, self.other)


@pytest.mark.parametrize(
    ("targets", "counted", "gradient", "other", "calls"),
    [
        ([2.0, 4.0, 5.0], [1, 1, 1], (-2 - 6 - 8) / 10, 0, 2),
        ([2.0, 4.0, 5.0], [1, 0, 1], (-2 - 8) / 10, 0, 2),
        ([2.0, 500.0, 5.0], [1, 1, 1], (-2 - 8) / 10, 0, 2),
        ([2.0, 4.0, 5.0], [1, 1, 1], (-2 - 6 - 8) / 10, 1, 4),
        ([math.inf, 4.0, 5.0], [1, 1, 1], (-6 - 8) / 10, 0, 4),
        ([math.nan, math.inf, 5.0], [1, 1, 1], -8 / 10, 0, 4),
        ([math.nan, math.inf, math.nan], [1, 1, 1], 0.0, 0, 4),
    ],
)
def test_gradients_are_those_of_the_finite_losses_that_count(
    targets: list[float], counted: list[float], gradient: float, other: int, calls: int
) -> None:
    """Breaks when a loss that is not finite reaches the gradient, or the ranks' calls differ."""
    method: Any = Squares()
    ranks: Any = Ranks(other)
    regression = Regression(method, ranks, [method.parameter], 2, lambda loss: loss.backward())
    batch: Batch = Targets(torch.tensor(targets))  # type: ignore[assignment]
    method.parameter.grad = torch.tensor(7.0)  # of the step before
    terms = regression.accumulate(batch, torch.tensor(counted, dtype=torch.float32), 10)
    assert method.parameter.grad.item() == pytest.approx(gradient)
    assert method.calls == calls
    assert len(terms.loss) == len(terms.stats["twice"]) == 3
