"""submitit on a real Slurm without accounting: what the launcher of sweeps builds upon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from submitit import AutoExecutor, Job
from submitit.core.utils import FailedJobError
from submitit.helpers import DelayedSubmission

from tests.sweeps.client import Client

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
Submit = Callable[..., list[Job[str]]]


class Task:
    """Does what it is told, and remembers how often it was interrupted."""

    def __init__(self) -> None:
        self.interruptions = 0

    def __call__(self, order: str) -> str:
        """Return, fail, die, or wait for an interruption."""
        if order == "fail":
            raise ValueError("ordered")
        if order == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        while order == "wait" and self.interruptions == 0:
            print("waiting", flush=True)
            time.sleep(0.1)
        return f"{order} {self.interruptions} {os.environ.get('SLURM_RESTART_COUNT', 0)}"

    def checkpoint(self, order: str) -> DelayedSubmission:
        """What submitit runs next."""
        self.interruptions += 1
        return DelayedSubmission(self, order)


@pytest.fixture
def submit(slurm: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Submit an array of tasks, one for each order."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    executor = AutoExecutor(folder=tmp_path / "%j", cluster="slurm")
    executor.update_parameters(timeout_min=20, mem_gb=0.3, cpus_per_task=1)
    return lambda *orders: executor.map_array(Task(), orders)


def test_results(submit: Submit) -> None:
    """Breaks if results and errors do not arrive through the disk, without sacct."""
    first, second, third = submit("a", "b", "fail")
    assert [first.result(), second.result()] == ["a 0 0", "b 0 0"]
    with pytest.raises(FailedJobError, match="ordered"):
        third.result()


def test_signal_requeues(submit: Submit, slurm: Client) -> None:
    """Breaks if USR2 does not let submitit put a single task of an array back into the queue."""
    waiting, other = submit("wait", "other")
    slurm.wait_for(lambda: "waiting" in (waiting.stdout() or ""), 60)
    slurm.signal(waiting.job_id, "USR2")
    assert waiting.result() == "wait 1 1"
    assert other.result() == "other 0 0"
    log = waiting.stderr()
    assert log is not None
    assert "DUE TO JOB REQUEUE ***" in log


def test_a_killed_task_never_ends(submit: Submit, slurm: Client) -> None:
    """Breaks if submitit notices by itself: then nobody needs to ask Slurm for the state."""
    job, _ = submit("die", "other")
    slurm.wait_for_state(job.job_id, "FAILED", seconds=60)
    assert not job.done(force_check=True)
    assert job.state == "UNKNOWN"
    assert slurm.show(job.job_id)["ExitCode"] == "137:0"
