"""What fine-tuning refuses, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import soc_ft
from soc_ft.errors import ConfigError
from soc_ft.models.model import DiffusionModel
from tests.api.small import PROMPTS, SMALL, redness, tiny, trained, without_gradient
from tests.scorers import Redness

SHAPE = r"returned shape \(\) for 2 pictures; return one number for each, shape \(2,\)"


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda images, prompts: images.mean(), SHAPE),
        (lambda images, prompts: None, r"function: returned NoneType for 2 pictures"),
        (lambda images, prompts: images.detach().mean((1, 2, 3)), r"no gradient .*differentiable"),
    ],
)
def test_a_function_is_told_what_it_must_return(
    untrained: DiffusionModel, reward: Any, message: str, tmp_path: Path
) -> None:
    """Breaks when a mean over the batch trains on nothing, or ends in an error of torch."""
    with pytest.raises(ConfigError, match=message):
        trained(untrained, tmp_path / "run", "trainer.reward_batch=3", reward=reward)


@pytest.mark.parametrize(
    ("overrides", "arguments", "message"),
    [
        (["trainer.stepz=8"], {}, r"trainer\.stepz: unknown key; did you mean trainer\.steps\?"),
        (["modle=shapes"], {}, r"modle: unknown key; did you mean model\?"),
        (["experiment=quikstart"], {}, r"experiment=quikstart: no such option; .*quickstart"),
        (["trainer.steps=none"], {}, r"trainer\.steps=none: "),
        (["trainer.steps"], {}, r"trainer\.steps"),
        (["lambda=1,10"], {}, r"lambda"),
        (["sweep=lambda"], {}, r"sweep=lambda: is a list of jobs"),
        (["hydra/launcher=slurm"], {}, r"hydra/launcher=slurm: .* command line only"),
        (["model=sd15"], {}, r"model=sd15: the model was loaded with model\.path=random:tiny"),
        (["finetune=lora"], {}, r"finetune=lora: the model was loaded with finetune\._target_="),
        (["+model.x=1"], {}, r"\+model\.x=1: the model was loaded with model\.x=absent"),
        (["scheduler=pretrained"], {}, r"scheduler=pretrained: .*scheduler\.beta_start=0\.002"),
        (["reward=shapes"], {}, r"reward=shapes: the argument reward says this already"),
        (["reward=shapes"], {"reward": "clip"}, r"reward=shapes: the argument reward=clip says"),
        (["run_dir=x"], {}, r"run_dir=x: the argument run_dir says this already"),
        (["prompts=shapes"], {}, r"prompts=shapes: the argument prompts says this already"),
        (["prompts.train=x"], {}, r"prompts\.train=x: the argument prompts says this already"),
        ([], {"reward": "redish"}, r"reward=redish: no such option"),
        ([], {"reward": 3}, r"reward=3: give a function \(images, prompts\) -> \(B,\)"),
        ([], {"reward": Redness}, r"reward=Redness: give a function"),
        ([], {"reward": len}, r"reward=len: must take two arguments"),
        ([], {"reward": without_gradient}, r"has no gradient, which method AdjointMatching needs"),
        ([], {"prompts": []}, r"prompts=\[\]: give at least one prompt"),
        ([], {"prompts": ["a", " "]}, r"prompts\[1\]=' ': must be a prompt"),
        ([], {"prompts": "house.txt"}, r"house\.txt: there is no such file"),
        ([], {"validation_prompts": []}, r"validation_prompts=\[\]: give at least one prompt"),
    ],
)
def test_wrong_arguments_of_fine_tuning_are_named(
    untrained: DiffusionModel,
    overrides: list[str],
    arguments: dict[str, Any],
    message: str,
    tmp_path: Path,
) -> None:
    """Breaks when a wrong argument ends in a traceback, or a refused run leaves files behind."""
    with pytest.raises(ConfigError, match=message) as refused:
        trained(untrained, tmp_path / "run", *overrides, **arguments)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_fine_tuned_is_named(untrained: DiffusionModel, tmp_path: Path) -> None:
    """Breaks when something that is no model ends in an error of Python."""
    with pytest.raises(ConfigError, match=r"model: has nothing to train \(finetune=None\)"):
        trained(tiny(finetune=None), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"model=str: is no model of soc_ft"):
        soc_ft.sample("shapes", PROMPTS)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"overrides: 8 is no text"):
        soc_ft.fine_tune(untrained, redness, 8)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"run_dir: name one, for all of 2 processes"):
        soc_ft.fine_tune(untrained, redness, *SMALL, "trainer.devices=2", prompts=PROMPTS)
