"""Hydra launchers whose jobs are folders, composed and checked before the first one starts."""

from __future__ import annotations

import json
import os
import sys
from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from soc_ft.config.schema import RunConfig
from soc_ft.errors import ConfigError
from soc_ft.files import remove_if_empty
from soc_ft.layout import SWEEP_FILE
from soc_ft.records.job import Job
from soc_ft.records.runs import choices_of, distinguishing, sweep_name
from soc_ft.records.sweep import Sweep, job_folders
from soc_ft.sweeps.composing import JobComposer
from soc_ft.sweeps.status import read_sweep


class FolderLauncher(Launcher):
    """Writes a folder for each job and hands the folders on; what they hold is all that runs."""

    name: str

    def __init__(self, **parameters: Any) -> None:
        """Keep the parameters, interpolations resolved; Hydra says later what to launch.

        Args:
            parameters: of the launcher, from its configuration group.
        """
        self.parameters: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True)
            if OmegaConf.is_config(value)
            else value
            for key, value in parameters.items()
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Told by Hydra what to launch."""
        self.context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs; whether they succeed is in their folders, not in what is returned.

        Raises:
            ConfigError: a job's configuration is wrong; then none is started.
        """
        setup_globals()
        folder = Path(self.config.hydra.sweep.dir).absolute()
        command = ["python", "-m", "soc_ft", *sys.argv[1:]]
        try:
            self.check_machine()
            _check_free(folder)
            _check_overrides(job_overrides)
            composed = self._composed(job_overrides, initial_job_idx)
        except (ConfigError, HydraException, OmegaConfBaseException):
            forget(folder)
            raise
        places = [*job_folders(folder), *(place for place, _ in composed)]
        jobs = list(dict.fromkeys(os.path.relpath(place, folder) for place in places))
        sweep = Sweep(folder, sweep_name(folder), self.name, self.parameters, command, jobs=jobs)
        sweep.save()
        for place, job in composed:
            place.mkdir(parents=True, exist_ok=True)
            job.save(place)
        self.start(sweep, [place for place, _ in composed])
        return [_returned(job) for _, job in composed]

    @abstractmethod
    def start(self, sweep: Sweep, folders: Sequence[Path]) -> None:
        """Run the jobs of these folders, and come back when none is running any more."""

    def check_machine(self) -> None:
        """Raise ConfigError if this machine cannot launch jobs with the parameters."""

    def check_resources(self, run: RunConfig) -> None:
        """Raise ConfigError if the launcher does not give a job what it needs."""

    def _composed(
        self, job_overrides: Sequence[Sequence[str]], first: int
    ) -> list[tuple[Path, Job]]:
        """Each job's folder and what is written into it, checked."""
        composer = JobComposer(self.context.config_loader, self.config)
        composed: dict[Path, Job] = {}
        experiments: dict[str, Job] = {}
        differing = distinguishing(job_overrides)
        # A terminal sees it if it takes a while; a file does not.
        bar = tqdm(
            job_overrides, "Checking the jobs", unit="job", leave=False, delay=1, disable=None
        )
        for place, overrides in enumerate(bar):
            folder, job = self._compose(composer, first + place, overrides)
            twin = experiments.setdefault(_experiment(job), job)
            if twin is not job:
                raise _same_experiment(twin, job)
            if folder in composed:
                raise _same_folder(folder, composed[folder], job)
            try:
                self._check(folder, job)
            except ConfigError as error:
                named = " ".join(differing[place])
                raise ConfigError(f"job {job.number} ({named}): {error}") from None
            composed[folder] = job
        return list(composed.items())

    def _compose(
        self, composer: JobComposer, number: int, overrides: Sequence[str]
    ) -> tuple[Path, Job]:
        config = composer.compose(overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        HydraConfig.instance().set_config(config)
        settings = config.hydra
        folder = Path(settings.sweep.dir, str(settings.sweep.subdir)).absolute()
        choices = choices_of(settings)
        task = tuple(settings.overrides.task)
        with open_dict(config):
            config.run_dir = str(folder)
            del config["hydra"]
        plain: Any = OmegaConf.to_container(config, resolve=True)
        return folder, Job(number, task, choices, plain)

    def _check(self, folder: Path, job: Job) -> None:
        from soc_ft.config import check
        from soc_ft.records.identity import check_resume

        config = OmegaConf.create(dict(job.config))
        run = check(config)
        check_resume(config, folder)
        self.check_resources(run)


def _same_folder(folder: Path, first: Job, second: Job) -> ConfigError:
    one, other = distinguishing([first.overrides, second.overrides])
    return ConfigError(
        f"{folder}: would be the folder of two jobs, {first.number} ({' '.join(one)}) and "
        f"{second.number} ({' '.join(other)}); let hydra.sweep.subdir tell them apart, as its "
        "default does"
    )


def _experiment(job: Job) -> str:
    """What a job does, wherever."""
    return json.dumps({**job.config, "run_dir": None}, sort_keys=True, default=str)


def _same_experiment(first: Job, second: Job) -> ConfigError:
    return ConfigError(
        f"jobs {first.number} and {second.number} are the same ({' '.join(second.overrides)}): "
        "their results would be equal and count as two seeds; name each value once"
    )


def _check_free(folder: Path) -> None:
    """Check that no job of an earlier command is at work in the folder of the sweep."""
    waiting = [job for job in read_sweep(folder) if job.state.waiting]
    if waiting:
        raise ConfigError(
            f"hydra.sweep.dir={folder}: {len(waiting)} of its jobs are queued or running; wait for "
            f"their end (python -m soc_ft.report {folder}), cancel them or choose another folder"
        )


def _check_overrides(job_overrides: Sequence[Sequence[str]]) -> None:
    """Check that nothing is said of what the jobs' folders decide."""
    for override in chain.from_iterable(job_overrides):
        if override.lstrip("+").startswith("run_dir="):
            raise ConfigError(
                f"{override}: each job of a sweep has a folder of its own; name that of the sweep "
                "with hydra.sweep.dir"
            )


def forget(folder: Path) -> None:
    """Remove what Hydra wrote before the jobs were looked at, unless there is a sweep."""
    if not (folder / SWEEP_FILE).is_file():
        (folder / "multirun.yaml").unlink(missing_ok=True)
        remove_if_empty(folder)


def _returned(job: Job) -> JobReturn:
    returned = JobReturn(overrides=filter_overrides(job.overrides))
    returned.status = JobStatus.COMPLETED
    returned.return_value = None
    return returned
