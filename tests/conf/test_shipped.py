"""Every shipped YAML composes and passes the check of keys, types and ranges."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from soc_ft.config import parse
from soc_ft.config.components import component_class
from soc_ft.config.groups import chosen
from soc_ft.config.kinds import METRIC
from soc_ft.files import conf_dir
from soc_ft.options import Component
from tests.conftest import composed

GROUPS = (
    "method",
    "reward",
    "cfg_mode",
    "scheduler",
    "buffer",
    "feedback",
    "features",
    "model",
    "finetune",
    "prompts",
    "trainer",
    "validation",
    "tracking",
)
OPTIONS = [
    (group, path.stem) for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))
]
EXPERIMENTS = sorted(
    str(path.relative_to(conf_dir() / "experiment").with_suffix(""))
    for path in (conf_dir() / "experiment").rglob("*.yaml")
)


NAMED = {
    ("prompts", "file"): ("prompts.train=a.txt", "prompts.validation=b.txt"),
    ("prompts", "hpsv2"): ("prompts.folder=c",),
}
"""What options leave to be named."""


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_options_compose(group: str, option: str) -> None:
    """Breaks when a YAML has a key that the schema does not know, or lacks one."""
    parse(composed(f"{group}={option}", *NAMED.get((group, option), ())))


METHODS = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
_KEY = re.compile(r"^(\w+): [^#]*?(?:# (.*))?$")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_and_its_file_state_the_same(method: str) -> None:
    """Breaks when a default, an option or its meaning is changed in the class or the YAML alone."""
    text = (conf_dir() / "method" / f"{method}.yaml").read_text()
    said = {m[1]: m[2] for line in text.splitlines() if (m := _KEY.match(line))}
    config = type(parse(composed(f"method={method}"))[1]).Config
    assert said == {"_target_": None} | {
        name: option.description for name, option in config.model_fields.items()
    }
    stated = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(stated, dict)
    del stated["_target_"]
    assert stated == config().model_dump()


@pytest.mark.parametrize("path", sorted((conf_dir() / "tuned").rglob("*.yaml")), ids=str)
def test_what_an_experiment_changes_of_one_option_is_used(path: Path) -> None:
    """Breaks when it is named after an experiment, a method or a feedback that there is not."""
    experiment, option = path.parent.name, path.stem
    group = "method" if path.parent.parent.name == "tuned" else path.parent.parent.name
    config = composed(f"experiment={experiment}", f"{group}={option}")
    changes = OmegaConf.load(path)
    assert OmegaConf.merge(config, changes) == config


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_takes_every_method(experiment: str, method: str) -> None:
    """Breaks when an experiment sets options that another method does not have."""
    parse(composed(f"experiment={experiment}", f"method={method}"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_compose(experiment: str) -> None:
    """Breaks when an experiment overrides a key that moved."""
    parse(composed(f"experiment={experiment}"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_say_what_they_need(experiment: str) -> None:
    """Breaks when an experiment lacks its hardware, its duration or its command."""
    text = (conf_dir() / "experiment" / f"{experiment}.yaml").read_text()
    for word in ("Hardware:", "Duration:", f"python -m soc_ft experiment={experiment}"):
        assert word in text


@pytest.mark.parametrize("experiment", [each for each in EXPERIMENTS if "_refl_" in each])
def test_the_bound_of_refl_is_that_of_its_reward(experiment: str) -> None:
    """Breaks when a bound in units of ImageReward leaves another reward without any gradient."""
    config = composed(f"experiment={experiment}")
    bounded = config.reward._target_.endswith(".ImageReward")
    assert config.method.enough == (2.0 if bounded else None)


SWEEPS = sorted(path.stem for path in (conf_dir() / "sweep").glob("*.yaml"))


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_job_of_a_sweep_composes(sweep: str) -> None:
    """Breaks when a preset names an option or a key that there is not."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed_sweep = compose("config", [f"sweep={sweep}"], return_hydra_config=True)
    ((key, values),) = composed_sweep.hydra.sweeper.params.items()
    jobs = str(values).split(",")
    assert len(set(jobs)) > 1
    for value in jobs:
        parse(composed(f"{key}={value}"))


LAUNCHERS = sorted(path.stem for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_give_each_process_a_task(launcher: str) -> None:
    """Breaks when a preset no longer composes, or leaves a process of the training without one."""
    overrides = [f"hydra/launcher={launcher}", "trainer.devices=3", "trainer.num_nodes=2"]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        settings = compose("config", overrides, return_hydra_config=True).hydra.launcher
    if launcher == "local":
        assert settings._target_ == "hydra_plugins.soc_ft.LocalLauncher"
        return
    assert settings._target_ == "hydra_plugins.soc_ft.SlurmLauncher"
    assert (settings.nodes, settings.tasks_per_node) == (2, 3)
    gpus = {"slurm": None, "slurm_gpu": 1, "slurm_node": 3, "slurm_nodes": 3}
    assert settings.gpus_per_node == gpus[launcher]


def test_every_folder_is_a_known_group() -> None:
    """Breaks when a group is added whose options the test above would not compose."""
    folders = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    assert folders <= {*GROUPS, "metric", "experiment", "tuned", "sweep", "commands", "hydra"}


@pytest.mark.parametrize("metric", sorted(p.stem for p in (conf_dir() / "metric").glob("*.yaml")))
def test_metrics_name_classes_with_their_arguments(metric: str) -> None:
    """Breaks when a metric of ``soc_ft.evaluate`` moves, or an argument of it."""
    settings = chosen("metrics", "metric", metric)
    component_class(Component.model_validate(settings), metric, METRIC)


def test_the_example_of_the_help_composes() -> None:
    """Breaks when groups of the issue's own command line cannot be combined."""
    run, _ = parse(
        composed(
            "method=adjoint_matching",
            "reward=shapes",
            "model=shapes",
            "lambda=100",
            "cfg_mode=none",
            "buffer=replay",
            "finetune=lora",
        )
    )
    assert run.buffer.passes > 1
    assert run.cfg_mode.guidance_scale == 1
