"""Jobs of a sweep one after the other on this machine, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from soc_ft.config.machine import check_accelerator
from soc_ft.config.processes import check_processes
from soc_ft.config.schema import RunConfig
from soc_ft.errors import Interrupted
from soc_ft.files import locked
from soc_ft.layout import LAUNCHER_LOCK, LOG_FILE
from soc_ft.records.job import Job, JobState, Submission, read_state, write_state
from soc_ft.records.runs import distinguishing
from soc_ft.records.sweep import Sweep
from soc_ft.sweeps.code import job_environment, snapshot_code
from soc_ft.sweeps.launcher import FolderLauncher
from soc_ft.sweeps.status import end_of_log


class LocalLauncher(FolderLauncher):
    """A job that raises, or is killed, leaves the others alone."""

    name = "local"

    def check_resources(self, run: RunConfig) -> None:
        """Check that this machine, where the jobs will run, has the GPUs that they ask for.

        Raises:
            ConfigError: it has not, or not all processes of a job would start.
        """
        check_accelerator(run.trainer)
        check_processes(run)

    def start(self, sweep: Sweep, folders: Sequence[Path]) -> None:
        """Run the jobs one by one, showing what they print.

        Raises:
            Interrupted: somebody had enough; the job that ran has saved what it had.
        """
        try:
            with locked(sweep.folder / LAUNCHER_LOCK):
                run_here(sweep, folders)
        except (KeyboardInterrupt, Interrupted) as stop:
            raise Interrupted.after(
                stop,
                f"interrupted; python -m soc_ft.report {sweep.folder} --rerun-failed goes on with "
                "the jobs that have not finished",
            ) from None


def run_here(sweep: Sweep, folders: Sequence[Path]) -> None:
    """Run the jobs of these folders one by one, whatever becomes of each."""
    code = snapshot_code(sweep.folder)
    for folder in folders:
        write_state(folder, JobState.QUEUED)
        Submission("local", LOG_FILE, code.name).append(folder)
    settings = distinguishing([Job.load(folder).overrides for folder in folders])
    for place, (folder, overrides) in enumerate(zip(folders, settings, strict=True), 1):
        print(f"\n== job {place} of {len(folders)}: {' '.join(overrides)}", flush=True)
        _note_kill(folder, _run(folder, sweep, code))


def _run(folder: Path, sweep: Sweep, code: Path) -> int:
    """The exit code of the job's process; negative for a signal."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "soc_ft.sweeps.job", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **job_environment(code, sweep.cwd)},
        cwd=sweep.cwd,
    )
    assert process.stdout is not None
    with open(folder / LOG_FILE, "ab") as log:
        try:
            _show(process.stdout, log)
            return process.wait()
        except KeyboardInterrupt:  # Ctrl-C reaches the job as well, which saves what it has
            process.wait()
            raise
        except Interrupted as stop:  # the others reach this process alone
            process.send_signal(stop.signal)
            process.wait()
            raise


def _show(output: IO[bytes], log: IO[bytes]) -> None:
    """Copy what a job prints to its log and to the terminal, as it comes."""
    while piece := os.read(output.fileno(), 65536):
        log.write(piece)
        log.flush()
        sys.stdout.buffer.write(piece)
        sys.stdout.flush()


def _note_kill(folder: Path, code: int) -> None:
    """Say of a job that could not say it itself how it ended."""
    state = read_state(folder)
    if state is not None and not state[0].waiting:
        return
    if code >= 0:
        said = end_of_log(folder / LOG_FILE) or "it printed nothing"
        write_state(folder, JobState.FAILED, f"its process ended with exit code {code}: {said}")
    elif -code == signal.SIGKILL:
        write_state(
            folder, JobState.FAILED, "killed (SIGKILL): perhaps the machine had no memory left"
        )
    else:
        write_state(folder, JobState.FAILED, f"killed ({signal.Signals(-code).name})")
