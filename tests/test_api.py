"""What a script or a notebook can do with the package."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor, nn

import soc_ft
from soc_ft.api import FineTuned
from soc_ft.errors import ConfigError
from soc_ft.evaluation.statistics import BASE, FINE_TUNED
from soc_ft.files import PACKAGE, conf_dir
from soc_ft.models.model import DiffusionModel
from soc_ft.rewards.function import FunctionReward, as_reward, record_of
from tests.conftest import TINY
from tests.scorers import MeanColour, Redness

EXAMPLE = Path(__file__).parent.parent / "examples" / "fine_tune_on_a_function.py"
SMALL = [each for each in TINY if not each.startswith(("model", "reward", "prompts"))]
PROMPTS = ["a house", "a tree\nin two lines", "ein Häuschen"]


def redness(images: Tensor, prompts: Sequence[str]) -> Tensor:
    red, green, blue = images.unbind(dim=1)
    return 20 * (red - (green + blue) / 2).mean(dim=(1, 2))


def bluish(images: Tensor, prompts: Sequence[str]) -> Tensor:
    return 20 * images[:, 2].mean(dim=(1, 2))


def tiny(**settings: Any) -> DiffusionModel:
    return soc_ft.load_model("shapes", path="random:tiny", device="cpu", **settings)


def trained(model: DiffusionModel, folder: Path, *overrides: str, **arguments: Any) -> FineTuned:
    arguments = {"reward": redness, "prompts": PROMPTS, **arguments}
    return soc_ft.fine_tune(
        model, arguments.pop("reward"), *SMALL, *overrides, run_dir=folder, **arguments
    )


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> FineTuned:
    """A finished run on a function."""
    folder = tmp_path_factory.mktemp("api") / "red"
    return trained(tiny(), folder, "trainer.steps=8", "validation.every=8")


# The package itself.


def test_importing_the_package_imports_nothing_else() -> None:
    """Breaks when the name of the package costs seconds."""
    script = "import sys; import soc_ft; dir(soc_ft); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "soc_ft" in loaded
    assert not loaded & {"torch", "hydra", "omegaconf", "pydantic", "numpy", "diffusers"}


def test_the_api_is_where_it_says() -> None:
    """Breaks when a name is offered that is not there, or the other way round."""
    assert set(soc_ft.__all__) <= set(dir(soc_ft))
    for name in soc_ft.__all__:
        assert getattr(soc_ft, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fine_tuned'"):
        soc_ft.fine_tuned  # noqa: B018


def test_the_commands_do_not_hide_the_functions() -> None:
    """Breaks when importing the command of a name makes the function of that name a module."""
    for name in ("sample", "evaluate"):
        command = importlib.import_module(f"soc_ft.{name}")
        assert callable(getattr(soc_ft, name))
        assert getattr(soc_ft, name) is not command


def test_the_example_runs(tmp_path: Path) -> None:
    """Breaks when what users start from no longer fits the API, or makes no picture redder."""
    done = subprocess.run(
        [sys.executable, EXAMPLE],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "red" / "pictures.png").is_file()
    difference = done.stdout.splitlines()[-1]
    assert difference.strip().startswith(f"difference to the {BASE}")
    assert float(difference.split()[-3]) > 0


# Loading.


def test_a_model_is_loaded_as_it_was_asked_for() -> None:
    """Breaks when an argument of loading is passed over."""
    model = tiny(
        finetune={"option": "lora", "rank": 2},
        scheduler={"option": "memoryless", "beta_end": 0.02},
        guidance_scale=2.5,
    )
    assert model.guidance_scale == 2.5
    assert model.scheduler.config.beta_end == 0.02
    assert model.scheduler.config.timestep_spacing == "trailing"
    assert {min(each.shape) for each in model.trainable_parameters()} == {2}
    shapes = soc_ft.load_model("shapes", device="cpu")
    assert shapes.guidance_scale == 3.0
    folder = PACKAGE / "world" / "shapes-diffusion"
    assert soc_ft.load_model(folder, finetune="lora").guidance_scale == 7.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"finetune": "lra"}, r"finetune=lra: no such option; did you mean lora\?"),
        ({"finetune": {"option": "lora", "rnk": 2}}, r"finetune\.rnk: .* did you mean rank\?"),
        ({"finetune": {"option": "lora", "rank": 0}}, r"finetune\.rank=0: must be at least 1"),
        ({"finetune": {"rank": 2}}, r"finetune=None: no such option .*full, lora, offset"),
        ({"finetune": 3}, r"finetune=3: no such option"),
        ({"scheduler": "linear"}, r"scheduler=linear: no such option"),
        ({"guidance": 2}, r"model\.guidance: .*did you mean guidance_scale\?"),
        ({"guidance_scale": -1}, r"model\.guidance_scale=-1: "),
        ({"frozen_dtype": "int8"}, r"model\.frozen_dtype=int8: choose float32 or bfloat16"),
        ({"device": "abacus"}, r"device=abacus: cannot be used"),
        ({"path": "random:huge"}, r"random:huge"),
    ],
)
def test_wrong_arguments_of_loading_are_named(arguments: dict[str, Any], message: str) -> None:
    """Breaks when a wrong argument ends in a traceback, or is not named."""
    with pytest.raises(ConfigError, match=message) as refused:
        soc_ft.load_model("shapes", **arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "shape",
            {},
            r"name_or_path=shape: no such option; did you mean shapes\?.* folder or file",
        ),
        ("/no/such/folder", {}, r"model\.path=/no/such/folder: no weights"),
        ("no.safetensors", {}, r"model\.path=no\.safetensors: no weights"),
        ("random:tiny", {"path": "x"}, r"path=x: name_or_path=random:tiny is the path already"),
    ],
)
def test_models_that_are_not_there_are_named(
    name: str, settings: dict[str, Any], message: str
) -> None:
    """Breaks when a misspelt name is taken for a model on the hub."""
    with pytest.raises(ConfigError, match=message):
        soc_ft.load_model(name, **settings)


# Fine-tuning.


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
    assert config.model.guidance_scale == 3.0
    assert config.finetune._target_ == "soc_ft.models.finetune.Full"
    assert config.scheduler.beta_end == 0.009
    assert config.reward._target_ == "soc_ft.rewards.function.FunctionReward"
    assert config.reward.function == "tests.test_api.redness"
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
        ({"reward": bluish}, r"reward\.digest .*reward\.function \(tests\.test_api\.redness in"),
        ({"prompts": ["a car"]}, r"another configuration: prompts\.train .*prompts\.validation"),
        ({"validation_prompts": ["a car"]}, r"another configuration: prompts\.validation \("),
    ],
)
def test_a_run_does_not_go_on_with_something_else(
    red: FineTuned, arguments: dict[str, Any], message: str
) -> None:
    """Breaks when a cell that was edited and run again returns the old run without a word."""
    before = {path: path.stat().st_mtime_ns for path in red.folder.rglob("*")}
    with pytest.raises(ConfigError, match=message):
        trained(tiny(), red.folder, "trainer.steps=8", "validation.every=8", **arguments)
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
    with pytest.raises(NameError):
        trained(model, tmp_path / "broken", reward=broken)
    assert trained(model, tmp_path / "run", "trainer.steps=1").results


SHAPE = r"returned shape \(\) for 3 pictures; return one number for each, shape \(3,\)"


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda images, prompts: images.mean(), SHAPE),
        (lambda images, prompts: None, r"function: returned NoneType for 3 pictures"),
        (lambda images, prompts: images.detach().mean((1, 2, 3)), r"no gradient .*differentiable"),
    ],
)
def test_a_function_is_told_what_it_must_return(reward: Any, message: str, tmp_path: Path) -> None:
    """Breaks when a mean over the batch trains on nothing, or ends in an error of torch."""
    with pytest.raises(ConfigError, match=message):
        trained(tiny(), tmp_path / "run", "trainer.reward_batch=3", reward=reward)


def without_gradient(images: Tensor, prompts: Sequence[str]) -> list[float]:
    return [float(image.mean()) for image in images]


without_gradient.differentiable = False  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "arguments", "message"),
    [
        (["trainer.stepz=8"], {}, r"trainer\.stepz: unknown key; did you mean trainer\.steps\?"),
        (["modle=shapes"], {}, r"modle: unknown key; did you mean model\?"),
        (["experiment=quikstart"], {}, r"experiment=quikstart: no such option; .*quickstart"),
        (["trainer.steps=none"], {}, r"trainer\.steps='none': "),
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
        ([], {"prompts": "a house"}, r"a house: there is no such file"),
        ([], {"validation_prompts": []}, r"validation_prompts=\[\]: give at least one prompt"),
    ],
)
def test_wrong_arguments_of_fine_tuning_are_named(
    overrides: list[str], arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Breaks when a wrong argument ends in a traceback, or a refused run leaves files behind."""
    with pytest.raises(ConfigError, match=message) as refused:
        trained(tiny(), tmp_path / "run", *overrides, **arguments)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_fine_tuned_is_named(tmp_path: Path) -> None:
    """Breaks when something that is no model ends in an error of Python."""
    with pytest.raises(ConfigError, match=r"model: has nothing to train \(finetune=None\)"):
        trained(tiny(finetune=None), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"model=str: is no model of soc_ft"):
        soc_ft.sample("shapes", PROMPTS)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"overrides: 8 is no text"):
        soc_ft.fine_tune(tiny(), redness, 8)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"run_dir: name one, for all of 2 processes"):
        soc_ft.fine_tune(tiny(), redness, *SMALL, "trainer.devices=2", prompts=PROMPTS)


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


# The record of a reward.


def test_a_function_of_a_module_can_be_built_from_its_record() -> None:
    """Breaks when ``soc_ft.evaluate run=...`` cannot measure a reward that it could import."""
    record = record_of(as_reward(redness))
    arguments = {key: value for key, value in record.items() if key != "_target_"}
    FunctionReward.check_arguments(arguments, "reward")
    images = torch.rand(3, 3, 4, 4)
    rebuilt = FunctionReward(**arguments)
    torch.testing.assert_close(rebuilt(images, PROMPTS), redness(images, PROMPTS))
    assert rebuilt.name == "redness"
    with pytest.raises(ConfigError, match=r"its source is not what it was \(digest"):
        FunctionReward("tests.test_api.bluish", arguments["digest"])


@pytest.mark.parametrize(
    "given",
    [
        lambda images, prompts: images.mean((1, 2, 3)),
        Redness(),
        Redness().__call__,
        functools.partial(redness),
        nn.Bilinear(1, 1, 1),
    ],
)
def test_what_cannot_be_imported_is_refused_elsewhere(given: Any) -> None:
    """Breaks when a configuration builds another reward than the one that was given."""
    record = record_of(as_reward(given))
    FunctionReward.check_arguments(record, "reward")
    script = (
        "from soc_ft.rewards.function import FunctionReward\n"
        f"FunctionReward.check_arguments({record!r}, 'metrics.mine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert f"ConfigError: metrics.mine.function={record['function']}: cannot" in done.stderr


def test_objects_are_rewards_too() -> None:
    """Breaks when a network cannot be given as it is, or a reward loses what it has."""
    own = Redness()
    assert as_reward(own) is own

    class Network(nn.Module):
        def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
            return images.mean((1, 2, 3))

    wrapped = as_reward(Network())
    assert wrapped.name == "Network"
    assert wrapped.differentiable
    assert wrapped.to(torch.device("cpu")) is wrapped
    assert wrapped(torch.ones(2, 3, 4, 4), ["a", "b"]).tolist() == [1, 1]
    assert not as_reward(without_gradient).differentiable
    assert as_reward(without_gradient)(torch.ones(2, 3, 4, 4), ["a", "b"]).tolist() == [1, 1]


# Sampling and measuring.


def test_pictures_are_the_same_every_time_whatever_the_batches(red: FineTuned) -> None:
    """Breaks when noise is consumed instead of addressed."""
    settings = {"samples_per_prompt": 2, "num_steps": 4}
    first = soc_ft.sample(red.model, PROMPTS, **settings)
    assert first.shape == (6, 3, 16, 16)
    assert first.dtype == torch.uint8
    assert torch.equal(first, soc_ft.sample(red.model, PROMPTS, **settings))
    apart = soc_ft.sample(red.model, PROMPTS, batch_size=1, **settings)
    assert (first.int() - apart.int()).abs().max() <= 1
    other = soc_ft.sample(red.model, PROMPTS, seed=1, **settings)
    assert (first.int() - other.int()).abs().max() > 1
    base = soc_ft.sample(red.model, PROMPTS, base=True, **settings)
    assert (first.int() - base.int()).abs().max() > 1
    assert torch.equal(base, soc_ft.sample(tiny(finetune=None), PROMPTS, **settings))


def test_an_evaluation_is_what_the_pictures_say(red: FineTuned) -> None:
    """Breaks when pictures, prompts or pairs get mixed up on the way to the table."""
    settings = {"samples_per_prompt": 2, "num_steps": 4, "seed": 5}
    scores = soc_ft.evaluate(
        red.model, {"red": redness, "colours": MeanColour()}, PROMPTS, batch_size=4, **settings
    )
    assert [each.model for each in scores] == [BASE, FINE_TUNED]
    means = {}
    for base in (True, False):
        pictures = soc_ft.sample(red.model, PROMPTS, base=base, **settings).double() / 255
        values = redness(pictures, []).unflatten(0, (3, 2))
        means[base] = values.mean(dim=1)
        estimate = scores[not base].estimates["red"]
        assert estimate.mean == pytest.approx(float(values.mean()), abs=1e-5)
        colours = pictures.mean(dim=(2, 3)).unflatten(0, (3, 2))
        spread = (colours[:, 0] - colours[:, 1]).square().sum(dim=1).mean() / 2
        assert scores[not base].estimates["colours"].mean == pytest.approx(float(spread), abs=1e-6)
    gains = means[False] - means[True]
    gain = scores[1].differences["red"]
    assert gain.mean == pytest.approx(float(gains.mean()), abs=1e-5)
    assert gain.error == pytest.approx(float(gains.std() / 3**0.5), abs=1e-5)
    assert gain.mean > 0
    assert not scores[0].differences
    assert "memoryless, eta 1, 4 steps" in str(scores)
    assert f"difference to the {BASE}" in str(scores)
    assert scores._repr_markdown_().startswith("| sampling |")


def test_metrics_are_named_listed_or_given(red: FineTuned) -> None:
    """Breaks when one of the ways to ask for a metric is lost."""
    settings = {"num_steps": 2, "samples_per_prompt": 1}
    given = ["shapes", redness, Redness()]
    scores = soc_ft.evaluate(red.model, given, PROMPTS[:2], **settings)
    assert list(scores[0].estimates) == ["shapes", "redness"]
    many = {"a": "shapes_accuracy", "b": {"_target_": "tests.scorers.Redness", "scale": 20}}
    many["c"] = redness  # type: ignore[assignment]
    (base,) = soc_ft.evaluate(tiny(finetune=None), many, PROMPTS[:2], **settings)
    assert base.estimates["b"].mean == pytest.approx(base.estimates["c"].mean)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": []}, r"metrics: choose at least one \(aesthetic, "),
        ({"metrics": "shape"}, r"metrics\.shape=shape: no such option; did you mean shapes\?"),
        ({"metrics": {"mine": 3}}, r"metrics\.mine=3: give a function"),
        ({"metrics": 3}, r"give a function"),
        ({"metrics": {"a": {"option": "shapes", "x": 1}}}, r"metrics\.a\.x: .* no such argument"),
        ({"metrics": "shapes_diversity", "samples_per_prompt": 1}, r"at least 2 .*not 1"),
        ({"prompts": []}, r"prompts=\[\]: give at least one prompt"),
        ({"prompts": "a house"}, r"a house: there is no such file .*goes into a list"),
        ({"prompts": 3}, r"prompts=3: give at least one prompt, in a list"),
        ({"num_steps": 1}, r"num_steps=1: "),
        ({"num_steps": 2000}, r"num_steps=2000: "),
        ({"eta": -1}, r"eta=-1: "),
        ({"batch_size": 0}, r"batch_size=0: "),
        ({"samples_per_prompt": 0}, r"samples_per_prompt=0: "),
    ],
)
def test_wrong_arguments_of_measuring_are_named(
    red: FineTuned, arguments: dict[str, Any], message: str
) -> None:
    """Breaks when a wrong argument ends in a traceback, or is not named."""
    with pytest.raises(ConfigError, match=message) as refused:
        soc_ft.evaluate(red.model, **{"metrics": redness, "prompts": PROMPTS, **arguments})
    assert "\n" not in str(refused.value)
