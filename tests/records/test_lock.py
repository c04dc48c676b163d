"""One process at a time in a run folder, however the last one ended."""

from __future__ import annotations

import errno
import fcntl
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from soc_ft.errors import RunError
from soc_ft.files import is_locked
from soc_ft.layout import RUN_LOCK
from soc_ft.records import lock
from soc_ft.records.lock import Holder, alone_in

HOLDER = """
import sys, time
from pathlib import Path
from soc_ft.records import lock
{setup}
with lock.alone_in(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""
REFUSED = r"another process trains in this run folder \(process \d+ on .*, since [-\d]+ [:\d]+\)"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_GLANCE", 0.2)
    monkeypatch.setattr(lock, "RENEWAL", 0.2)
    for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID", "LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


def holding(folder: Path, setup: str = "") -> subprocess.Popen[str]:
    """Another process that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(setup=setup), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    return process


def test_the_second_process_is_refused_in_one_line_until_the_first_is_killed(
    tmp_path: Path,
) -> None:
    """Breaks if two processes write one journal, or a lock outlives `kill -9`."""
    first = holding(tmp_path / "run")
    try:
        with pytest.raises(RunError, match=REFUSED) as refusal, alone_in(tmp_path / "run"):
            pass
        assert "\n" not in str(refusal.value)
        assert str(first.pid) in str(refusal.value)
        assert is_locked(tmp_path / "run" / RUN_LOCK)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert (tmp_path / "run" / RUN_LOCK).exists()
    with alone_in(tmp_path / "run"):
        pass
    assert not list((tmp_path / "run").iterdir())


def test_nothing_is_left_of_a_folder_that_was_made_for_the_lock(tmp_path: Path) -> None:
    """Breaks if a run that is refused after it got the lock leaves an empty folder."""
    with alone_in(tmp_path / "run"):
        assert is_locked(tmp_path / "run" / RUN_LOCK)
    assert not list(tmp_path.iterdir())


def test_a_look_at_the_lock_bars_nobody(tmp_path: Path) -> None:
    """Breaks if `report`, which asks whether a job runs, makes one fail that starts just then."""
    (tmp_path / RUN_LOCK).touch()
    looking = open(tmp_path / RUN_LOCK)  # noqa: SIM115
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.1, looking.close).start()
    with alone_in(tmp_path):
        pass


def test_the_processes_of_one_job_are_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if the lock bars a rank of its own job, or lets one of another job in."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    with alone_in(tmp_path):
        monkeypatch.setenv("SLURM_PROCID", "1")
        with alone_in(tmp_path):
            pass
        monkeypatch.setenv("SLURM_JOB_ID", "8")
        with pytest.raises(RunError, match=r"Slurm job 7"), alone_in(tmp_path):
            pass
        monkeypatch.delenv("SLURM_JOB_ID")
        monkeypatch.delenv("SLURM_PROCID")
        monkeypatch.setenv("LOCAL_RANK", "1")  # started by Lightning
        with alone_in(tmp_path):
            pass


def test_a_requeued_job_does_not_wait_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a file server that still knows the lock of a lost machine bars the same job."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    with alone_in(tmp_path):
        with pytest.raises(RunError, match="Slurm job 7"), alone_in(tmp_path):
            pass
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        with alone_in(tmp_path):
            pass


def test_without_locks_a_note_that_is_renewed_bars(
    tmp_path: Path, no_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a file system without locks lets two processes in."""
    with alone_in(tmp_path):
        monkeypatch.setattr(lock, "_has_ended", lambda holder: False)  # as another machine sees it
        with pytest.raises(RunError, match=REFUSED), alone_in(tmp_path):
            pass
    assert not (tmp_path / RUN_LOCK).exists()


def test_without_locks_a_note_that_stands_still_does_not_bar(
    tmp_path: Path, no_locks: None
) -> None:
    """Breaks if what a killed process left must be removed by hand."""
    for holder in (Holder(pid=2**22 + 1), Holder(host="elsewhere")):
        (tmp_path / RUN_LOCK).write_text(holder.as_text())
        began = time.monotonic()
        with alone_in(tmp_path):
            pass
        assert time.monotonic() - began < 5


def test_a_message_says_who_and_since_when() -> None:
    """Breaks if a person cannot find the process that bars."""
    holder = Holder(host="node7", pid=12, job="34.0", since=0.0)
    assert re.fullmatch(r"process 12 on node7, Slurm job 34, since \d{4}-.*", str(holder))
