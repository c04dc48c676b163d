"""One process at a time trains in a run folder, or the processes of one job.

The lock is the kernel's, which ends with its process however that ends. Where a file system has no
locks it is a note that its process renews every few seconds: one that stands still is a dead
process's.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from soc_ft.errors import RunError
from soc_ft.files import displayed, is_locked, remove_if_empty, replace_file
from soc_ft.layout import RUN_LOCK
from soc_ft.processes import is_first_process

RENEWAL = 3.0
"""Seconds between renewals of a note."""

_GLANCE = 1.0
"""Seconds that a lock is tried for: whoever asks whether a run goes on holds it for an instant."""


@dataclass(frozen=True)
class Holder:
    """Who trains in a folder.

    Attributes:
        host: of the process.
        pid: of the process.
        job: Slurm's job and step, whose processes belong together; empty without Slurm.
        restart: how often Slurm has requeued the job.
        since: seconds since the epoch.
    """

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    job: str = field(default_factory=lambda: _slurm_step())
    restart: str = field(default_factory=lambda: os.environ.get("SLURM_RESTART_COUNT", "0"))
    since: float = field(default_factory=time.time)

    def __str__(self) -> str:
        """For a message."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        job = f", Slurm job {self.job.partition('.')[0]}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {since}"

    def as_text(self) -> str:
        """As the lock's file holds it."""
        return json.dumps(asdict(self))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep everybody else from training in a run folder, which is made if need be.

    Raises:
        RunError: somebody trains in it; says who.
    """
    path = folder / RUN_LOCK
    if not is_first_process():  # whose first process holds the lock
        _within(_GLANCE, folder, lambda: not _held_by_another_job(path))
        yield
        return
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(folder, path):
            yield
    finally:
        if is_new:
            remove_if_empty(folder)


@contextmanager
def _lock(folder: Path, path: Path) -> Iterator[None]:
    files: list[IO[str]] = []

    def acquired() -> bool:
        file = open(path, "a+")  # noqa: SIM115 (kept)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed the file between the two.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                files.append(file)
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            if not files:
                file.close()
        return bool(files) or _was_requeued(path)

    try:
        _within(_GLANCE, folder, acquired)
    except RunError:
        raise
    except OSError:  # no locks on this file system
        with _note(folder, path):
            yield
        return
    try:
        for file in files:
            file.truncate(0)
            file.write(Holder().as_text())
            file.flush()
        yield
    finally:
        for file in files:
            path.unlink(missing_ok=True)
            file.close()


@contextmanager
def _note(folder: Path, path: Path) -> Iterator[None]:
    """The lock of a file system without locks."""
    other = _holder(path)
    if other is not None and not _has_ended(other):
        before = _renewed(path)
        time.sleep(3 * RENEWAL)
        if _renewed(path) != before:
            raise _refusal(folder, other)
    mine = Holder()
    replace_file(path, mine.as_text().encode())
    time.sleep(RENEWAL / 3)  # of two that came at once, the last one to write stays
    if _holder(path) != mine:
        raise _refusal(folder, _holder(path))
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEWAL):
            with suppress(OSError):
                os.utime(path)

    threading.Thread(target=renew, name="lock", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        path.unlink(missing_ok=True)


def _within(seconds: float, folder: Path, succeeds: Callable[[], bool]) -> None:
    """Try for a while. Raises RunError if it does not succeed."""
    deadline = time.monotonic() + seconds
    while not succeeds():
        if time.monotonic() > deadline:
            raise _refusal(folder, _holder(folder / RUN_LOCK))
        time.sleep(0.1)


def _refusal(folder: Path, holder: Holder | None) -> RunError:
    who = f" ({holder})" if holder else ""
    return RunError(
        f"{displayed(folder)}: another process trains in this run folder{who}; wait for its end, "
        "or choose another run_dir"
    )


def _holder(path: Path) -> Holder | None:
    """Who wrote the file last."""
    try:
        return Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _held_by_another_job(path: Path) -> bool:
    holder, job = _holder(path), _slurm_step()
    return bool(job) and is_locked(path) and holder is not None and holder.job != job


def _was_requeued(path: Path) -> bool:
    """Whether the lock is this very job's, from before Slurm killed and requeued it.

    A file server may take a minute to notice that the machine is gone.
    """
    holder, mine = _holder(path), Holder()
    return bool(holder and mine.job and holder.job == mine.job and holder.restart != mine.restart)


def _has_ended(holder: Holder) -> bool:
    """Whether it is certain that a process is no more."""
    if holder.host != socket.gethostname():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return holder.pid == os.getpid()


def _renewed(path: Path) -> int:
    """When the note was renewed; opened, because file servers let others see that late."""
    with suppress(OSError), open(path) as file:
        return os.fstat(file.fileno()).st_mtime_ns
    return 0


def _slurm_step() -> str:
    """Job and step that Slurm started this process in, or nothing."""
    job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID")
    return f"{job}.{step}" if job and step else ""
