"""Jobs of a sweep as an array of Slurm jobs, submitted through submitit."""

from __future__ import annotations

import io
import logging
import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from soc_ft.config.schema import RunConfig
from soc_ft.errors import ConfigError, Preempted
from soc_ft.records.job import JobState, Submission, write_state
from soc_ft.records.sweep import Sweep
from soc_ft.sweeps.code import job_environment, snapshot_code
from soc_ft.sweeps.job import run_job
from soc_ft.sweeps.launcher import FolderLauncher
from soc_ft.sweeps.waiting import wait
from soc_ft.training.preemption import Preemption

_log = logging.getLogger(__name__)

_PATIENCE = 0.75
"""Share of the time between the signal and the kill that the job waits for a step to end."""

_AT_LEAST_ONE = ("cpus_per_task", "mem_gb", "timeout_min", "signal_delay_s", "array_parallelism")
_OF_SUBMITIT = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb"}
_OF_SUBMITIT |= {"nodes", "name", "stderr_to_stdout"}
"""Parameters that submitit knows whatever the cluster; the others are Slurm's own."""


_OF_AN_ALLOCATION = ("SLURM_", "SBATCH_", "SRUN_")


class SlurmLauncher(FolderLauncher):
    """Submits the jobs, then watches them; they go on if it ends."""

    name = "slurm"

    def start(self, sweep: Sweep, folders: Sequence[Path]) -> None:
        """Submit an array and wait for its end.

        Raises:
            ConfigError: there is no Slurm here, or it refuses the jobs.
        """
        submit(sweep, folders, self.parameters)
        wait(sweep)

    def check_machine(self) -> None:
        """Check that there is a Slurm, and that resources are numbers that it can give.

        Raises:
            ConfigError: there is none, or one is not.
        """
        for name in _AT_LEAST_ONE:
            given = self.parameters.get(name)
            if given is not None and not (isinstance(given, int) and given >= 1):
                raise ConfigError(
                    f"hydra.launcher.{name}={given}: must be a whole number, at least 1"
                )
        if shutil.which("srun") is None:
            raise ConfigError(
                "hydra/launcher=slurm: there is no Slurm here (no srun on the PATH); submit from a "
                "login node of the cluster, or leave the launcher out to run the jobs here"
            )

    def check_resources(self, run: RunConfig) -> None:
        """Check that there is a task for each process of the training, and time to train.

        Raises:
            ConfigError: there is not.
        """
        minutes, delay = self.parameters["timeout_min"], self.parameters["signal_delay_s"]
        if delay >= 30 * minutes:
            raise ConfigError(
                f"hydra.launcher.signal_delay_s={delay}: is more than half of the time limit, "
                f"hydra.launcher.timeout_min={minutes}; nothing would be left for training"
            )
        pairs = (("tasks_per_node", "devices"), ("nodes", "num_nodes"))
        for mine, training in pairs:
            given, needed = self.parameters[mine], getattr(run.trainer, training)
            if given != needed:
                raise ConfigError(
                    f"hydra.launcher.{mine}={given}: must be trainer.{training}={needed}, one task "
                    f"for each process; leave hydra.launcher.{mine} alone and it follows"
                )
        gpus = self.parameters["gpus_per_node"]
        if gpus is not None and gpus != run.trainer.devices and run.trainer.accelerator != "cpu":
            raise ConfigError(
                f"hydra.launcher.gpus_per_node={gpus}: must be trainer.devices="
                f"{run.trainer.devices}, one GPU for each process; see hydra/launcher=slurm_node"
            )


class SlurmJob:
    """What submitit calls in each task of a job."""

    def __init__(self, folder: Path, patience: float, seconds: float) -> None:
        """Say which job it is; submitit writes that to disk and calls it on a node.

        Args:
            folder: of the job.
            patience: seconds that the end of a step and its save may take after the signal.
            seconds: of its time limit.
        """
        self.folder = folder
        self.patience = patience
        self.seconds = seconds

    def __call__(self) -> None:
        """Run the job; if Slurm asks it to stop, save and let submitit requeue it."""
        from submitit import JobEnvironment
        from submitit.core.utils import UncompletedJobError

        stop_signal = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
        requeue: Any = signal.getsignal(stop_signal)
        try:
            run_job(self.folder, Preemption(stop_signal, self.patience, self.seconds))
        except Preempted:
            try:
                requeue(stop_signal, None)  # ends the first process of the job
            except UncompletedJobError as error:
                write_state(self.folder, JobState.TIMED_OUT, str(error))
                raise
            time.sleep(60)  # the others wait for Slurm to end them

    def checkpoint(self) -> Any:
        """What submitit runs after a requeue: the same, which resumes by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(sweep: Sweep, folders: Sequence[Path], parameters: Mapping[str, Any]) -> None:
    """Hand the jobs of these folders to Slurm, as one array.

    Args:
        sweep: that they belong to.
        folders: of the jobs.
        parameters: of ``conf/hydra/launcher/slurm.yaml``.

    Raises:
        ConfigError: there is no Slurm here, or it refuses the jobs.
    """
    import submitit

    code = snapshot_code(sweep.folder)
    patience, seconds = _PATIENCE * parameters["signal_delay_s"], 60 * parameters["timeout_min"]
    jobs = [SlurmJob(folder, patience, seconds) for folder in folders]
    for folder in folders:
        write_state(folder, JobState.QUEUED)
    try:
        # Submitit prints what sbatch says; here it becomes part of the error.
        with _outside_an_allocation(), redirect_stderr(io.StringIO()):
            submitted = _executor(sweep, parameters, code).submit_array(jobs)
    except (submitit.core.utils.FailedJobError, RuntimeError, ValueError) as error:
        reason = f"could not be submitted: {_reason(error)}"
        for folder in folders:
            write_state(folder, JobState.FAILED, reason)
        raise ConfigError(
            f"hydra/launcher=slurm: the jobs {reason}; mend it, and submit them with python -m "
            f"soc_ft.report {sweep.folder} --rerun-failed, or --rerun-failed --launcher KEY=VALUE"
        ) from error
    for folder, job in zip(folders, submitted, strict=True):
        log = os.path.relpath(job.paths.stdout, folder)
        Submission("slurm", log, code.name, job.job_id).append(folder)
    first = submitted[0].job_id.partition("_")[0]
    _log.info("Submitted %d jobs to Slurm as %s", len(folders), first)


@contextmanager
def _outside_an_allocation() -> Iterator[None]:
    """Leave out what the allocation that this command runs in says of itself.

    Its jobs would inherit it, and Slurm would take it for what they ask for: SLURM_MEM_PER_CPU of
    salloc, say, is at odds with the --mem of sbatch. Where Slurm's configuration lies remains.
    """
    kept = dict(os.environ)
    if "SLURM_JOB_ID" in os.environ:
        for name in kept:
            if name.startswith(_OF_AN_ALLOCATION) and name != "SLURM_CONF":
                del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


def _executor(sweep: Sweep, parameters: Mapping[str, Any], code: Path) -> Any:
    """Raises RuntimeError if there is no Slurm here, ValueError if a parameter is wrong."""
    import submitit

    given = dict(parameters)
    executor = submitit.AutoExecutor(
        folder=Path(sweep.cwd, given.pop("submitit_folder")),
        cluster="slurm",
        slurm_max_num_timeout=given.pop("max_num_timeout"),
    )
    variables = job_environment(code, sweep.cwd)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    given["setup"] = [*(given.get("setup") or []), f"cd {shlex.quote(sweep.cwd)}", *exports]
    given["srun_args"] = ["--kill-on-bad-exit=1"]  # one process of a job does not survive another
    executor.update_parameters(
        **{name if name in _OF_SUBMITIT else f"slurm_{name}": given[name] for name in given}
    )
    return executor


def _reason(error: Exception) -> str:
    """What sbatch or submitit says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
