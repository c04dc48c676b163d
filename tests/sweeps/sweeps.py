"""Sweeps of the tiny model as processes of their own, and what happens to their jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.conftest import TINY

TOP = Path(__file__).parent.parent.parent
SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2")


def sweep_command(folder: Path, *overrides: str) -> list[str]:
    """``python -m soc_ft -m`` with the tiny model; the overrides given here win."""
    given = {override.partition("=")[0] for override in overrides}
    tiny = [each for each in TINY if each.partition("=")[0] not in given]
    words = [f"+{word}" if word.startswith("reward.scale") else word for word in tiny]
    module = ["-m", "soc_ft", "-m", f"hydra.sweep.dir={folder}"]
    return [sys.executable, *module, *words, *overrides]


def start(command: list[str], environment: Mapping[str, str], cwd: Path) -> subprocess.Popen[str]:
    """Start a command in a folder, from which the package and the tests can be imported."""
    return subprocess.Popen(
        command,
        env={**environment, "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_signals,
    )


def _heed_signals() -> None:
    """What a shell or nohup lets the tests ignore, their children would ignore too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def slurm_id(job: Path) -> str:
    """Of the last submission of the job in a folder."""
    lines = (job / "submissions.jsonl").read_text().splitlines()
    return str(json.loads(lines[-1])["slurm_id"])


def is_submitted(job: Path) -> bool:
    """Whether the launcher has noted that it handed the job on."""
    submissions = job / "submissions.jsonl"
    return submissions.is_file() and submissions.stat().st_size > 0


def step_of(job: Path) -> int:
    """The last optimizer step that a job has recorded."""
    journal = job / "metrics.jsonl"
    lines = journal.read_text().splitlines() if journal.is_file() else []
    return max((json.loads(line)["step"] for line in lines), default=0)


def wait_until(condition: Callable[[], bool], seconds: float = 240) -> None:
    """Raises TimeoutError if the condition does not come true in time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError
        time.sleep(0.2)


def kill_process(job: Path) -> None:
    """``kill -9`` of the Python process that runs a job of an array."""
    array, task = slurm_id(job).split("_")
    wanted = {f"SLURM_ARRAY_JOB_ID={array}", f"SLURM_ARRAY_TASK_ID={task}"}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended
            continue
        ours = command[0] == sys.executable.encode() and b"submitit.core._submit" in command
        if ours and wanted <= set(variables):
            os.kill(int(process.name), signal.SIGKILL)
            return
    raise AssertionError(f"job {array}_{task} has no process")
