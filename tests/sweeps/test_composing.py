"""Jobs composed from one reading of the files are those that Hydra composes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from soc_ft.errors import ConfigError
from soc_ft.files import conf_dir
from soc_ft.sweeps.composing import JobComposer
from soc_ft.sweeps.local import LocalLauncher

JOBS = (
    ("experiment=quickstart", "lambda=1", "seed=0"),
    ("experiment=quickstart", "lambda=2", "seed=1", "~trainer.lr", "+trainer.new={a: 1}"),
    ("experiment=quickstart", "cfg_mode=full", "trainer.betas=[0.5,0.6]", "lambda=3"),
    ("lambda=4", "+reward@reward2=clip"),
)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[tuple[JobComposer, DictConfig]]:
    """Two that compose the same, and the configuration of a sweep."""
    setup_globals()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        loader = GlobalHydra.instance().config_loader()
        hydra = [f"hydra.sweep.dir={tmp_path}/s", "hydra.sweep.subdir=s${seed}", "hydra.job.num=0"]
        config = loader.load_configuration("config", hydra, RunMode.MULTIRUN)
        yield JobComposer(loader, config), config
        HydraConfig.instance().cfg = None


def test_a_job_is_what_hydra_makes_of_it(sweep: tuple[JobComposer, DictConfig]) -> None:
    """Breaks if the second job with the same options inherits a value of the first, or a swept
    value, an option of a group or Hydra's own node differ from what Hydra composes."""
    composer, config = sweep
    loader = GlobalHydra.instance().config_loader()
    for overrides in (*JOBS, *JOBS):
        expected = loader.load_sweep_config(config, list(overrides))
        assert composer.compose(overrides) == expected, overrides


@pytest.mark.parametrize("wrong", ["trainer.nope=1", "reward=nope", "+lambda=2", "~nope"])
def test_a_wrong_override_is_refused_as_by_hydra(
    wrong: str, sweep: tuple[JobComposer, DictConfig]
) -> None:
    """Breaks if a misspelt key of a job passes, or is said in another way than without -m."""
    composer, config = sweep
    with pytest.raises(HydraException) as ours:
        composer.compose([wrong])
    with pytest.raises(HydraException) as theirs:
        GlobalHydra.instance().config_loader().load_sweep_config(config, [wrong])
    assert str(ours.value) == str(theirs.value)


def refused_jobs(config: DictConfig, *words: str) -> str:
    """What is said of a sweep over values of one key, none of whose jobs may start."""
    HydraConfig.instance().set_config(config)
    launcher = LocalLauncher()
    context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
    launcher.setup(hydra_context=context, task_function=lambda _: None, config=config)
    shapes = ("model=shapes", "reward=shapes", "prompts=shapes")
    with pytest.raises(ConfigError) as refused:
        launcher.launch([[word, *shapes] for word in words], 0)
    return str(refused.value)


def test_two_jobs_never_share_a_folder(
    sweep: tuple[JobComposer, DictConfig], tmp_path: Path
) -> None:
    """Breaks if one job overwrites another, and the sweep ends well."""
    line = refused_jobs(sweep[1], "lambda=10", "lambda=20")
    assert f"{tmp_path}/s/s0: would be the folder of two jobs" in line
    assert "0 (lambda=10) and 1 (lambda=20)" in line
    assert not list(tmp_path.iterdir())


def test_a_job_that_repeats_another_is_refused(
    sweep: tuple[JobComposer, DictConfig], tmp_path: Path
) -> None:
    """Breaks if seed=0,1,0 counts one result as two seeds."""
    line = refused_jobs(sweep[1], "seed=0", "seed=1", "seed=0")
    assert line.startswith("jobs 0 and 2 are the same (seed=0 ")
    assert not list(tmp_path.iterdir())
