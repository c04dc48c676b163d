"""Whole runs on a latent consistency model, from a folder as it is published to an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler

from soc_ft.config import check
from soc_ft.errors import ConfigError
from soc_ft.training.run import train
from tests.conftest import TINY, composed, curve
from tests.models.small import consistency_pipeline
from tests.trained import largest_difference, weights

ENOUGH = tuple(override for override in TINY if not override.startswith(("method.", "model")))
STEPS = 3


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pipeline and the scheduler of latent consistency models."""
    folder = tmp_path_factory.mktemp("lcm")
    pipeline = consistency_pipeline()
    LatentConsistencyModelPipeline(
        **{**pipeline.components, "safety_checker": None, "feature_extractor": None},
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def configured(published: Path, *overrides: str) -> Any:
    return composed(
        *ENOUGH,
        "model=lcm_dreamshaper",
        f"model.path={published}",
        "scheduler=consistency",
        f"scheduler.num_steps={STEPS}",
        "trainer.steps=2",
        "trainer.warmup_steps=0",
        "trainer.lr=1e-3",
        "export=true",
        *overrides,
    )


@pytest.mark.parametrize("method", ["rebel", "ddpo", "sdpo", "d3po", "draft"])
def test_it_is_fine_tuned_and_exported(published: Path, tmp_path: Path, method: str) -> None:
    """Breaks if a method that needs nothing but transitions and pictures cannot have them here."""
    config = configured(published, f"method={method}")
    module = train(config, check(config), tmp_path / "run")
    (before, _), *_, (step, last) = curve(tmp_path / "run")
    assert (before, step) == (0, 2)
    assert last["val/control_cost"] > 0
    pipeline = LatentConsistencyModelPipeline.from_pretrained(tmp_path / "run" / "model")
    assert type(pipeline.scheduler) is LCMScheduler
    exported = pipeline.unet.state_dict()
    trained = module.model.trainable_state()
    assert all(torch.equal(exported[name], trained[name]) for name in exported)
    base = consistency_pipeline().unet.state_dict()
    assert any(not torch.equal(exported[name], base[name]) for name in exported)


def test_the_guidance_scale_is_that_of_the_model(published: Path, tmp_path: Path) -> None:
    """Breaks if trajectories are sampled at another scale, or guidance costs evaluations."""
    runs = []
    for guidance in ("trajectories", "none"):
        config = configured(published, "method=ddpo", f"cfg_mode={guidance}", "export=false")
        train(config, check(config), tmp_path / guidance)
        runs.append(tmp_path / guidance)
        counted = [m for _, m in curve(runs[-1]) if "train/evaluations_forward" in m]
        assert {m["train/evaluations_forward"] for m in counted} == {4 * STEPS * 2}
    assert largest_difference(*map(weights, runs)) > 1e-5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=adjoint_matching"], "distilled=consistency: method AdjointMatching needs the"),
        (["method=discrete_adjoint"], "distilled=consistency: method DiscreteAdjoint needs the"),
        (["method=rwr"], "distilled=consistency: method RWR needs the"),
        (["method=online_dpo"], "distilled=consistency: method OnlineDPO needs the"),
        (["method=rebel", "scheduler=memoryless"], "sampler=ddim: .*use scheduler=consistency"),
        (["method=rebel", "scheduler.num_steps=1"], "num_steps=1: method Rebel learns from"),
        (["method=ddpo", "scheduler.num_steps=1"], "num_steps=1: method DDPO learns from"),
        (["method=ddpo", "scheduler.eta=0"], "scheduler.eta=0: "),
        (["method=ddpo", "scheduler.num_steps=51"], "num_steps=51: "),
        (["method=ddpo", "model=sd_turbo"], "sampler=consistency: needs a consistency model"),
        (
            ["method=adjoint_matching", "model=sd_turbo", "scheduler=pretrained"],
            "distilled=few_step: method AdjointMatching needs the velocity field",
        ),
    ],
)
def test_what_does_not_fit_is_refused(published: Path, overrides: list[str], message: str) -> None:
    """Breaks if a combination that cannot work is found out after the model has loaded."""
    with pytest.raises(ConfigError, match=message) as caught:
        check(configured(published, *overrides))
    assert "\n" not in str(caught.value)


def test_one_step_is_enough_for_a_gradient(published: Path) -> None:
    """Breaks if methods that follow the reward's gradient are refused with those that cannot."""
    check(configured(published, "method=draft", "scheduler.num_steps=1"))
    check(configured(published, "method=draft", "method.kl=true", "scheduler.num_steps=1"))
