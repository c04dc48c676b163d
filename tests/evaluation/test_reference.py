"""The optimum beside a run: what was possible, and which rewards may say so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from omegaconf import OmegaConf

from soc_ft.config import check
from soc_ft.core import Tilt
from soc_ft.errors import ConfigError
from soc_ft.evaluation.reference import BaseRewards, beside_optimum, law
from soc_ft.evaluation.statistics import Estimate
from soc_ft.models.distillation import Sampler
from tests.conftest import composed

LAW = law({"path": "embedded:shapes", "attention": "auto"}, {}, 10, 1.0, 3.0, {"_target_": "a.B"})


@pytest.fixture
def rewards() -> torch.Tensor:
    """Of a standard normal law, for which KL = lambda^2 / 2 and gain = lambda."""
    return torch.randn(4, 20_000, generator=torch.Generator().manual_seed(0))


def test_the_optimum_of_a_normal_law(rewards: torch.Tensor) -> None:
    """Breaks if gains, objectives or the optimum of equal cost are those of another lambda."""
    found = beside_optimum(rewards, 0.5, Estimate(0.6, 0.03, 4), Estimate(0.72, 0.06, 4))
    assert found["possible_gain"].mean == pytest.approx(0.5, abs=0.02)
    assert found["possible_objective"].mean == pytest.approx(0.125, abs=0.01)
    assert found["possible_gain_at_cost"].mean == pytest.approx(1.2, abs=0.04)
    # Of the control cost: 0.06 nats at a slope of 1 / 1.2.
    assert found["possible_gain_at_cost"].error == pytest.approx(0.05, abs=0.01)
    assert found["efficiency"].mean == pytest.approx(0.5, abs=0.02)
    assert found["efficiency"].error == pytest.approx(0.5 * math.hypot(0.05, 0.06 / 1.44), rel=0.05)


def test_what_too_few_samples_carry_is_left_out(rewards: torch.Tensor) -> None:
    """Breaks if a handful of samples passes for the optimum of a large lambda or cost."""
    found = beside_optimum(rewards, 100.0, Estimate(1.0, 0.1, 4), Estimate(50.0, 1.0, 4))
    assert set(found) == {"efficiency", "possible_gain_at_least"}
    found = beside_optimum(rewards, 100.0, Estimate(0.0, 0.1, 4), Estimate(0.0, 0.0, 4))
    assert set(found) == {"possible_gain_at_least"}


def test_what_is_possible_at_least_holds_where_the_optimum_is_known() -> None:
    """Breaks if the best of N is free, or the bound exceeds the optimum, which is lambda."""
    draws = torch.randn(2000, 50, generator=torch.Generator().manual_seed(1))
    for scale in (0.5, 2.0, 10.0):
        found = beside_optimum(draws, scale, Estimate(0.0, 0.1, 4), Estimate(0.0, 0.0, 4))
        least = found["possible_gain_at_least"]
        # The mean of the largest of 50 standard normal draws is 2.249.
        assert least.mean == pytest.approx(2.249 - (math.log(50) - 0.98) / scale, abs=0.04)
        assert least.mean < scale


def test_a_run_that_gained_nothing_has_an_efficiency_of_zero(rewards: torch.Tensor) -> None:
    """Breaks if a gain of exactly zero, as of a reward in steps, ends the run in a division."""
    found = beside_optimum(rewards, 1.0, Estimate(0.0, 0.1, 4), Estimate(0.5, 0.1, 4))["efficiency"]
    assert found.mean == 0.0
    assert found.error == pytest.approx(0.1, rel=0.05)


def test_rewards_come_back_with_their_law_and_by_prompt(tmp_path: Path) -> None:
    """Breaks if rows are given to other prompts, or a law is told by what does not decide it."""
    rewards = torch.arange(6.0).view(3, 2)
    BaseRewards(rewards, ["a", "b", "c"], LAW).save(tmp_path / "rewards.safetensors")
    found = BaseRewards.load(str(tmp_path / "rewards.safetensors"))
    assert found.differences(LAW, ["c", "a"]) == []
    assert found.of(["c", "a"]).tolist() == [[4.0, 5.0], [0.0, 1.0]]
    other: dict[str, Any] = LAW | {"guidance_scale": 1.0}
    assert found.differences(other, ["a", "d"]) == [
        "guidance_scale (3.0 there, 1.0 here)",
        "1 of 2 prompts",
    ]


def test_other_samplers_are_another_law_and_ddim_is_the_one_of_older_files() -> None:
    """Breaks if rewards that were kept before there were samplers count for nothing, or those of a
    consistency model for any sampler."""
    model, reward = {"path": "embedded:shapes"}, {"_target_": "a.B"}
    ddim, consistency = (
        law(model, {"sampler": sampler}, 10, 1.0, 3.0, reward) for sampler in get_args(Sampler)
    )
    assert ddim == LAW
    assert consistency == LAW | {"scheduler.sampler": "consistency"}


@pytest.mark.parametrize("guided", [False, True])
def test_the_shipped_rewards_are_those_of_the_quickstart(guided: bool) -> None:
    """Breaks if a key of the configuration is new in the law: the optimum would not be shown."""
    scale = 1.2 if guided else 1.0
    config = composed("experiment=quickstart", f"validation.guidance_scale={scale}")
    run = check(config)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    name = "base_rewards_guided" if guided else "base_rewards"
    measured = law(
        plain["model"],
        run.scheduler.noise_levels(),
        run.scheduler.num_steps,
        run.scheduler.eta,
        scale,
        plain["reward"],
    )
    kept = BaseRewards.load(f"package:world/{name}.safetensors")
    assert kept.differences(measured, kept.prompts) == []


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    """Breaks if a file of weights, or half a file, ends in a traceback."""
    path = tmp_path / "rewards.safetensors"
    BaseRewards(torch.ones(1, 2), ["a"], LAW).save(path)
    content = path.read_bytes()
    for damaged in (content[:-4], b"", content.replace(b'"rewards"', b'"weights"')):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError) as error:
            BaseRewards.load(str(path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("rewards", [[[1.0]], [[1.0, float("nan")]], [[1.0, 2.0], [1.0, 2.0]]])
def test_rewards_without_an_optimum_are_refused(tmp_path: Path, rewards: list[list[float]]) -> None:
    """Breaks if rewards that are not finite, too few or of other prompts end a run at its end."""
    path = tmp_path / "rewards.safetensors"
    BaseRewards(torch.tensor(rewards), ["a"], LAW).save(path)
    with pytest.raises(ConfigError, match="holds no rewards of a base model"):
        BaseRewards.load(str(path))


def test_the_gain_of_the_tilt_is_never_below_that_of_the_run(rewards: torch.Tensor) -> None:
    """Breaks if the optimum of equal cost is no bound for a law at that cost."""
    own = Tilt(rewards, 0.8)
    found = beside_optimum(
        rewards,
        0.8,
        Estimate(own.gain(own.rewards).value, 0.01, 4),
        Estimate(own.divergence().value, 0.01, 4),
    )
    assert found["possible_gain_at_cost"].mean == pytest.approx(
        found["possible_gain"].mean, abs=1e-3
    )
