"""The benchmark counts and times what an optimizer step consists of."""

from __future__ import annotations

from pathlib import Path

from soc_ft.config import check
from soc_ft.training.benchmark import EVALUATING, measure
from soc_ft.training.scorers import build_scorers
from tests.conftest import TINY, composed
from tests.rewards.test_weighted import RUN, SUM


def test_the_cost_of_a_step_is_split_and_compared(tmp_path: Path) -> None:
    """Breaks when a phase is not timed, or the counted evaluations are not those of training."""
    config = composed(*TINY, "method.prompt_dropout=0", "cfg_mode=none")
    run = check(config)
    cost = measure(config, run, build_scorers(config, run), steps=2, evaluations=2)
    assert {"rollout", "reward gradient", "adjoint", "regression", "optimizer"} <= set(cost.seconds)
    assert set(cost.ideal) == set(EVALUATING)
    assert all(cost.ideal[phase] > 0 for phase in EVALUATING)
    samples, steps, regressed = 4, 6, 3
    assert samples * (steps + regressed) < cost.forward <= samples * (2 * steps + regressed)
    report = cost.report()
    for word in (*cost.seconds, "per trajectory", "cpu"):
        assert word in report


def test_a_method_without_an_adjoint_is_timed() -> None:
    """Breaks when the table asks for a phase that the method does not have."""
    shared = [each for each in TINY if not each.startswith("method.")]
    config = composed(*shared, "method=ddpo", "cfg_mode=none")
    run = check(config)
    cost = measure(config, run, build_scorers(config, run), steps=1, evaluations=1)
    assert set(cost.ideal) == {"rollout", "regression"}
    assert "rollout, regression take" in cost.report()


def test_a_reward_that_no_run_has_measured_costs_the_same() -> None:
    """Breaks when the steps of a standardised reward cannot be timed without a validation."""
    config = composed(*RUN, *SUM, "reward.normalise=true", "cfg_mode=none")
    run = check(config)
    cost = measure(config, run, build_scorers(config, run), steps=1, evaluations=1)
    assert cost.seconds["regression"] > 0
