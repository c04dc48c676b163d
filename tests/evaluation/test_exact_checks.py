"""``exact=true`` compares a run with the law that it fine-tuned, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from soc_ft.errors import ConfigError
from tests.evaluation.conftest import BASE_ALONE, assert_refused, checked_run, planned


@pytest.mark.parametrize(
    ("mode", "scale", "measured", "notes"),
    [("none", 1.0, False, 0), ("full", 3.0, True, 0), ("trajectories", 3.0, True, 1)],
)
def test_the_law_is_the_one_that_was_fine_tuned(
    tmp_path: Path, mode: str, scale: float, measured: bool, notes: int
) -> None:
    """Breaks when guidance is not that of the run's trajectories, or what differs is not said."""
    run = f"run={checked_run(tmp_path / 'run', f'cfg_mode={mode}', 'model.guidance_scale=3.0')}"
    found = planned("exact=true", run, "guidance_scale=null")
    assert found.source is not None
    assert found.exact is not None
    assert found.source.guidance_scale == scale
    assert found.exact.measured is measured
    assert len(found.exact.notes) == notes
    assert found.exact.lambdas == [100.0]
    assert found.exact.reward == "redness"
    assert [(block.num_steps, block.eta) for block in found.blocks] == [(4, 1.0)]


def test_other_weights_have_another_cost(tmp_path: Path) -> None:
    """Breaks when the last validation's control cost is shown beside an earlier checkpoint."""
    run = f"run={checked_run(tmp_path / 'run', 'cfg_mode=full')}"
    last, best = (
        planned("exact=true", run).exact,
        planned("exact=true", run, "checkpoint=best").exact,
    )
    assert last is not None
    assert best is not None
    assert (last.measured, best.measured) == (True, False)


def test_the_reward_is_measured_beside_other_metrics(tmp_path: Path) -> None:
    """Breaks when a list of metrics without the run's reward leaves none to tilt by."""
    found = planned(
        "exact=true",
        f"run={checked_run(tmp_path / 'run')}",
        "metrics=[{_target_: tests.scorers.MeanColour}]",
    )
    assert list(found.measures) == ["redness", "MeanColour"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([*BASE_ALONE], ["exact_lambdas", "give some"]),
        ([*BASE_ALONE, "exact_lambdas=[0]"], ["exact_lambdas.0", "greater than 0"]),
        ([*BASE_ALONE, "exact_lambdas=1", "eta=[0.5,1]"], ["one eta"]),
        ([*BASE_ALONE, "exact_lambdas=1", "eta=0"], ["eta=0 is deterministic"]),
        ([*BASE_ALONE, "exact_lambdas=1", "exact_samples=1"], ["exact_samples=1", "at least 2"]),
        (
            [*BASE_ALONE, "exact_lambdas=1", "metrics=[shapes_diversity,shapes]"],
            ["the first is the reward", "shapes_diversity"],
        ),
        ([*BASE_ALONE, "exact=false", "exact_lambdas=1"], ["means nothing without exact=true"]),
        (["images=/nowhere", "metrics=[shapes]"], ["exact=true", "means nothing with images="]),
    ],
)
def test_what_has_no_optimum_is_one_line(overrides: list[str], words: list[str]) -> None:
    """Breaks when a mistake gets past the check, to fail after hours of sampling."""
    assert_refused(["exact=true", *overrides], words)


@pytest.mark.parametrize("override", ["num_steps=7", "eta=0.5", "guidance_scale=9.0"])
def test_another_law_than_the_run_fine_tuned_is_refused(tmp_path: Path, override: str) -> None:
    """Breaks when a run stands beside the optimum of another process."""
    with pytest.raises(ConfigError, match="leave out scheduler, eta, num_steps and guidance"):
        planned("exact=true", f"run={checked_run(tmp_path / 'run')}", override)


def test_what_is_not_memoryless_is_said() -> None:
    """Breaks when an upper bound passes for what can be reached."""
    found = planned("exact=true", *BASE_ALONE, "exact_lambdas=1", "eta=0.5").exact
    assert found is not None
    assert "upper bound" in found.notes[0]
