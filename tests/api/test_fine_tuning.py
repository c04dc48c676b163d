"""Runs that are started from Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor

import soc_ft
from soc_ft.api import FineTuned
from soc_ft.errors import ConfigError
from soc_ft.evaluation.folders import BASE
from soc_ft.files import conf_dir
from soc_ft.models.model import DiffusionModel
from tests.api.small import PROMPTS, SMALL, bluish, tiny, trained
from tests.scorers import Informed, Redness


def test_a_function_is_maximised(red: FineTuned) -> None:
    """Breaks when the function is not what the model is trained on."""
    assert list(red.results) == [0, 8]
    last = red.results[8]
    assert last["gain"] > 4 * last["gain_error"] > 0
    assert str(red).endswith(f" to the {BASE}")
    assert all(parameter.grad is None for parameter in red.model.parameters())


def test_the_folder_says_what_was_used(red: FineTuned) -> None:
    """Breaks when the record is of a model, a reward or prompts that were not used."""
    config = OmegaConf.load(red.folder / "config.yaml")
    assert config.model.path == "random:tiny"
    assert config.model.guidance_scale == 1.2
    assert config.finetune._target_ == "soc_ft.models.finetune.Full"
    assert config.scheduler.beta_end == 0.009
    assert config.reward._target_ == "soc_ft.rewards.function.FunctionReward"
    assert config.reward.function == "tests.api.small.redness"
    assert config.run_dir == str(red.folder)
    choices = OmegaConf.load(red.folder / "choices.yaml")
    assert (choices.model, choices.finetune, choices.reward) == ("shapes", "full", "redness")
    assert list(OmegaConf.load(red.folder / "overrides.yaml"))[: len(SMALL)] == SMALL
    kept = Path(config.prompts.train)
    assert kept.parent == red.folder
    assert [json.loads(line) for line in kept.read_text().splitlines()] == PROMPTS
    assert config.prompts.validation == config.prompts.train


def test_the_record_is_that_of_the_model_not_of_the_experiment(tmp_path: Path) -> None:
    """Breaks when an experiment's model is recorded, or its reward trained on."""
    model = tiny(
        finetune={"option": "lora", "rank": 2},
        scheduler={"option": "memoryless", "beta_end": 0.02},
        guidance_scale=2.5,
    )
    run = trained(
        model,
        tmp_path / "run",
        "experiment=quickstart",
        "cfg_mode=trajectories",
        "seed=3",
        "trainer.steps=1",
        "scheduler.eta=1.1",
        reward=Redness(scale=20),
    )
    config = OmegaConf.load(run.folder / "config.yaml")
    assert (config.model.path, config.model.guidance_scale) == ("random:tiny", 2.5)
    assert config.validation.guidance_scale == config.cfg_mode.guidance_scale == 2.5
    assert (config.finetune.rank, config.finetune.seed) == (2, 0)
    assert (config.scheduler.beta_end, config.scheduler.eta) == (0.02, 1.1)
    assert config.reward.function == "tests.scorers.Redness()"
    assert config.trainer.accelerator == "cpu"


def test_a_shipped_reward_is_named(tmp_path: Path) -> None:
    """Breaks when the name of an option is not the reward of the run, or not its record."""
    run = trained(tiny(), tmp_path / "run", "trainer.steps=1", reward="shapes")
    config = OmegaConf.load(run.folder / "config.yaml")
    assert config.reward == {"_target_": "soc_ft.rewards.shapes.ShapesReward"}
    assert "reward=shapes" in OmegaConf.load(run.folder / "overrides.yaml")


def test_a_reward_is_told_what_a_file_says_of_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when an object from Python is not told, or the held-out prompts are not its last."""
    monkeypatch.setattr(Informed, "told", [])
    (tmp_path / "own.jsonl").write_text('{"prompt": "a", "bonus": 3}\n{"prompt": "b", "bonus": 1}')
    run = trained(
        tiny(),
        tmp_path / "run",
        *("trainer.steps=1", "+prompts.held_out=1", "validation.prompts=2"),
        *("+validation.metrics.plain._target_=tests.scorers.Redness",),
        reward=Informed(),
        prompts=str(tmp_path / "own.jsonl"),
    )
    assert Informed.told == [{"a": {"bonus": 3}, "b": {"bonus": 1}}]
    for measured in run.results.values():
        assert measured["reward"] - measured["plain"] == pytest.approx(1)
    assert OmegaConf.load(run.folder / "config.yaml").prompts.validation is None


@pytest.mark.slow
def test_the_same_call_goes_on(tmp_path: Path, red: FineTuned) -> None:
    """Breaks when a finished run is started over, or one of more steps does not go on."""
    folder = tmp_path / "run"
    short = trained(tiny(), folder, "trainer.steps=4", "validation.every=8")
    assert list(short.results) == [0, 4]
    long = trained(short.model, folder, "trainer.steps=8", "validation.every=8")
    assert long.results[8]["reward"] == pytest.approx(red.results[8]["reward"], rel=1e-3)
    again = trained(tiny(), folder, "trainer.steps=8", "validation.every=8")
    assert again.results == long.results
    for own, other in zip(
        again.model.trainable_parameters(), long.model.trainable_parameters(), strict=True
    ):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": bluish}, r"reward\.digest .*reward\.function \(tests\.api\.small\.redness in"),
        ({"prompts": ["a car"]}, r"another configuration: prompts\.train .*prompts\.validation"),
        ({"validation_prompts": ["a car"]}, r"another configuration: prompts\.validation \("),
    ],
)
def test_a_run_does_not_go_on_with_something_else(
    red: FineTuned, untrained: DiffusionModel, arguments: dict[str, Any], message: str
) -> None:
    """Breaks when a cell that was edited and run again returns the old run without a word."""
    before = {path: path.stat().st_mtime_ns for path in red.folder.rglob("*")}
    with pytest.raises(ConfigError, match=message):
        trained(untrained, red.folder, "trainer.steps=8", "validation.every=8", **arguments)
    assert {path: path.stat().st_mtime_ns for path in red.folder.rglob("*")} == before


def test_a_model_is_fine_tuned_in_one_run(red: FineTuned, tmp_path: Path) -> None:
    """Breaks when a run starts from the weights of another, which no record of it says."""
    with pytest.raises(ConfigError, match=r"model: was fine-tuned in .*red; load it anew"):
        trained(red.model, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_reward_that_breaks_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    """Breaks when a typing error in a reward costs the person the loaded model."""

    def broken(images: Tensor, prompts: Sequence[str]) -> Tensor:
        return image.mean()  # type: ignore[name-defined] # noqa: F821

    model = tiny()
    with pytest.raises(ConfigError, match=r"reward \(broken\): raised NameError .* 'image'"):
        trained(model, tmp_path / "broken", reward=broken)
    assert trained(model, tmp_path / "run", "trainer.steps=1").results


def test_a_model_from_elsewhere_must_be_described(tmp_path: Path) -> None:
    """Breaks when the default model is recorded for one that nothing is known of."""
    model = tiny()
    vars(model).pop("_soc_ft_loaded")
    with pytest.raises(ConfigError, match=r"model: is not from soc_ft\.load_model"):
        trained(model, tmp_path / "run")
    described = ["model=shapes", "model.path=random:tiny", "trainer.steps=1"]
    run = trained(model, tmp_path / "run", *described)
    assert OmegaConf.load(run.folder / "config.yaml").model.path == "random:tiny"


def test_a_hydra_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    """Breaks when a notebook that uses Hydra itself is robbed of it."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        own = GlobalHydra.instance().hydra
        model = tiny()
        with pytest.raises(ConfigError):
            trained(model, tmp_path / "run", "trainer.steps=0")
        soc_ft.evaluate(model, ["shapes"], PROMPTS[:1], num_steps=2, samples_per_prompt=1)
        assert GlobalHydra.instance().hydra is own
