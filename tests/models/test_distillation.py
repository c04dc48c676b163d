"""Which sampler a model has is checked before anything loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from soc_ft.config.schema import Scheduler
from soc_ft.errors import ConfigError
from soc_ft.models.availability import check_available
from soc_ft.models.distillation import check_sampler
from tests.conftest import composed
from tests.models.test_availability import write_folder


def levels(option: str, **changes: Any) -> dict[str, Any]:
    return (
        Scheduler.model_validate(composed(f"scheduler={option}").scheduler).noise_levels() | changes
    )


@pytest.mark.parametrize(
    ("distilled", "option"),
    [
        (None, "memoryless"),
        (None, "pretrained"),
        ("few_step", "pretrained"),
        ("few_step", "memoryless"),
        ("consistency", "consistency"),
    ],
)
def test_samplers_that_fit(distilled: Any, option: str) -> None:
    """Breaks if a model is refused its own sampler."""
    check_sampler(distilled, levels(option), 8, 1.0)
    check_sampler(distilled, levels(option))


def test_what_is_not_said_is_ddim() -> None:
    """Breaks if settings of before there were samplers are refused, or pass for another one."""
    check_sampler(None, {}, 50, 0.0)
    with pytest.raises(ConfigError, match="use scheduler=consistency"):
        check_sampler("consistency", {})


@pytest.mark.parametrize(
    ("distilled", "option", "changes", "num_steps", "eta", "message"),
    [
        ("consistency", "memoryless", {}, 8, 1.0, "scheduler.sampler=ddim: .*=consistency$"),
        ("consistency", "pretrained", {}, 8, 1.0, "scheduler.sampler=ddim: .*=consistency$"),
        (None, "consistency", {}, 8, 1.0, "scheduler.sampler=consistency: needs"),
        ("few_step", "consistency", {}, 8, 1.0, "scheduler.sampler=consistency: needs"),
        ("consistency", "consistency", {"beta_end": 0.01}, 8, 1.0, "scheduler.beta_end=0.01: "),
        (
            "consistency",
            "consistency",
            {"timestep_spacing": "trailing"},
            8,
            1.0,
            "scheduler.timestep_spacing=trailing: ",
        ),
        ("consistency", "consistency", {}, 8, 0.0, "scheduler.eta=0: "),
        ("consistency", "consistency", {}, 8, 1.1, r"scheduler.eta=1\.1: "),
        (None, "memoryless", {}, 1, 1.0, "num_steps=1: must be greater than or equal to 2"),
    ],
)
def test_samplers_that_do_not_fit(
    distilled: Any,
    option: str,
    changes: dict[str, Any],
    num_steps: int,
    eta: float,
    message: str,
) -> None:
    """Breaks if a model is sampled otherwise than it was trained to be, without a word."""
    given = levels(option, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        check_sampler(distilled, given, num_steps, eta)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=message):  # where commands ask
        check_available({"path": "random:tiny", "distilled": distilled}, given, num_steps, eta)


def test_a_folder_says_itself_that_it_is_a_consistency_model(tmp_path: Path) -> None:
    """Breaks if an LCM passes for a Stable Diffusion, or its own pipeline is refused."""
    folder = write_folder(tmp_path / "lcm", "LatentConsistencyModelPipeline")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({"_class_name": "LCMScheduler"}))
    check_available(
        {"path": str(folder), "distilled": "consistency"}, levels("consistency"), 1, 1.0
    )
    for path in (str(folder), "random:lcm"):
        for distilled in (None, "few_step"):
            with pytest.raises(ConfigError, match=r"LCMScheduler.*model\.distilled=consistency"):
                check_available({"path": path, "distilled": distilled}, levels("pretrained"), 50)
    scheduler.write_text(json.dumps({"original_inference_steps": 10}))
    with pytest.raises(ConfigError, match=r"num_steps=11: .* 10 timesteps"):
        check_available(
            {"path": str(folder), "distilled": "consistency"}, levels("consistency"), 11
        )


def test_a_consistency_model_made_of_an_ordinary_folder(tmp_path: Path) -> None:
    """Breaks if a Stable Diffusion with merged LCM weights, whose scheduler is still its old one,
    cannot be sampled as what it is."""
    folder = write_folder(tmp_path / "merged")
    check_available(
        {"path": str(folder), "distilled": "consistency"}, levels("consistency"), 4, 1.0
    )
