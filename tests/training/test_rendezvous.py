"""Processes that wait for each other."""

from __future__ import annotations

import logging
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from soc_ft.config import check
from soc_ft.errors import Interrupted, RunError
from soc_ft.tracking.logger import RunLogger
from soc_ft.training import rendezvous
from soc_ft.training.building import build_checkpoints, build_trainer
from soc_ft.training.rendezvous import DataParallel, meeting
from tests.conftest import TINY, composed

HOST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        found: int = free.getsockname()[1]
    return found


def test_all_meet_whoever_comes_first(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Breaks if one goes on before the others are there, or waits for those who have gone on."""
    with ThreadPoolExecutor(3) as pool:

        def enter(rank: int) -> int:
            with meeting(HOST, port, rank, 3):
                return rank

        others = [pool.submit(enter, rank) for rank in (2, 1)]
        with pytest.raises(TimeoutError):
            others[0].result(timeout=0.3)
        with meeting(HOST, port, 0, 3):  # the first has the server, which the others still use
            assert [other.result(timeout=20) for other in others] == [2, 1]
    assert not caplog.records


@pytest.mark.parametrize(("rank", "absent"), [(0, "rank 1, 2"), (1, "rank 0")])
def test_who_is_missing_is_said_and_not_waited_for_for_ever(
    port: int,
    rank: int,
    absent: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Breaks if a process that was not started, or was killed, makes the others wait in silence."""
    monkeypatch.setattr(rendezvous, "_SILENCE", 0.1)
    monkeypatch.setattr(rendezvous, "_PATIENCE", 0.5)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(RunError, match=rf"{HOST}:{port} .*: {absent} of 3 .* did not come"),
        meeting(HOST, port, rank, 3),
    ):
        pass
    (record,) = caplog.records
    assert f"Waiting at {HOST}:{port} " in record.message
    assert f" for {absent} of 3 processes" in record.message


def test_a_process_does_not_outlive_the_one_that_started_it(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if processes of a job whose first was killed wait for half an hour where nobody
    sees them."""
    monkeypatch.setenv("SOC_FT_STARTED_BY", "999999999")
    monkeypatch.setattr(rendezvous, "_PATIENCE", 0.5)
    said = rf"^{HOST}:{port} .*: the process that started this one has ended$"
    with pytest.raises(RunError, match=said), meeting(HOST, port, 1, 2):
        pass


def test_a_signal_ends_the_wait(port: int) -> None:
    """Breaks if whoever waits in vain for a process cannot be stopped but by kill -9."""

    def stop(number: int, _: object) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(Interrupted), meeting(HOST, port, 0, 2):
            pass
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_address_in_use_is_told(port: int) -> None:
    """Breaks if a MASTER_PORT that another program listens at ends in a traceback."""
    with socket.socket() as other:
        other.bind(("", port))
        other.listen()
        said = rf"^{HOST}:{port} .*: rank 0 cannot listen \(.*\)$"
        with pytest.raises(RunError, match=said), meeting(HOST, port, 0, 2):
            pass


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_processes_of_a_run_meet(tmp_path: Path, strategy: str, devices: int) -> None:
    """Breaks if a run of several processes has another strategy, or one of one waits for any."""
    run = check(composed(*TINY, f"trainer.devices={devices}", f"trainer.strategy={strategy}"))
    trainer = build_trainer(run, tmp_path, RunLogger(tmp_path), build_checkpoints(run, tmp_path))
    assert isinstance(trainer.strategy, DataParallel) == (devices > 1)
