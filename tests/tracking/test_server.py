"""A real MLflow server that is late, killed, or stopped in the middle of a run."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soc_ft.layout import JOURNAL_FILE
from soc_ft.records.journal import Journal
from soc_ft.tracking.mlflow_tracker import MLflowTracker

pytestmark = pytest.mark.services

Record_ = Callable[[Journal, range], None]


@pytest.fixture
def journal(run_dir: Path) -> Journal:
    return Journal(run_dir / JOURNAL_FILE)


@pytest.fixture
def tracker(server: Any, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MLflowTracker]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = MLflowTracker(uri=server.uri, run_name="test", interval=0.1)
    tracker.start(run_dir, {"lambda": "10"}, {"hostname": "here"})
    yield tracker
    tracker.close()


def train(tracker: MLflowTracker, journal: Journal, record: Record_, steps: range) -> float:
    """Record the steps at a few milliseconds each; the longest that one of them took."""
    slowest = 0.0
    for step in steps:
        began = time.perf_counter()
        record(journal, range(step, step + 1))
        tracker.notify()
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(0.005)
    return slowest


def finish(tracker: MLflowTracker, run_dir: Path) -> str:
    (run_dir / "table.csv").write_text("a,b\n1,2\n")
    tracker.upload(run_dir / "table.csv", "tables")
    tracker.end("FINISHED")
    return tracker.flush(120)


def assert_complete(server: Any, delivered: Any, recorded: Any) -> None:
    from mlflow import MlflowClient

    assert delivered(server.uri) == recorded()
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("soc_ft")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lambda": "10"}
    assert [f.path for f in client.list_artifacts(run.info.run_id, "tables")] == [
        "tables/table.csv"
    ]


def test_undisturbed(
    server: Any,
    tracker: MLflowTracker,
    journal: Journal,
    record: Record_,
    run_dir: Path,
    recorded: Any,
    delivered: Any,
) -> None:
    """Breaks if anything is lost or repeated on the way through HTTP."""
    server.start()
    train(tracker, journal, record, range(1, 301))
    assert "everything is delivered" in finish(tracker, run_dir)
    assert_complete(server, delivered, recorded)


def test_server_that_comes_late(
    server: Any,
    tracker: MLflowTracker,
    journal: Journal,
    record: Record_,
    run_dir: Path,
    recorded: Any,
    delivered: Any,
) -> None:
    """Breaks if a run that began without its server stays without it."""
    assert train(tracker, journal, record, range(1, 101)) < 0.5
    server.start()
    train(tracker, journal, record, range(101, 201))
    assert "everything is delivered" in finish(tracker, run_dir)
    assert_complete(server, delivered, recorded)


def test_server_killed_in_mid_run_and_restarted(
    server: Any,
    tracker: MLflowTracker,
    journal: Journal,
    record: Record_,
    run_dir: Path,
    recorded: Any,
    delivered: Any,
) -> None:
    """Breaks if points that were on their way when the server died are lost or doubled."""
    server.start()
    for first in (1, 201, 401):
        train(tracker, journal, record, range(first, first + 100))
        server.kill()
        assert train(tracker, journal, record, range(first + 100, first + 200)) < 0.5
        server.start()
    assert "everything is delivered" in finish(tracker, run_dir)
    assert_complete(server, delivered, recorded)


def test_server_that_hangs(
    server: Any,
    tracker: MLflowTracker,
    journal: Journal,
    record: Record_,
    run_dir: Path,
    recorded: Any,
    delivered: Any,
) -> None:
    """Breaks if a stopped server holds up training, or a timed-out request is counted as lost.

    The requests that time out here do reach the server once it goes on.
    """
    server.start()
    train(tracker, journal, record, range(1, 101))
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    slowest = 0.0
    first = 101
    while time.monotonic() < began + 8:
        slowest = max(slowest, train(tracker, journal, record, range(first, first + 50)))
        first += 50
    assert slowest < 0.5
    line = tracker.flush(1.0)
    assert "are not delivered" in line
    server.signal(signal.SIGCONT)
    assert "everything is delivered" in finish(tracker, run_dir)
    assert_complete(server, delivered, recorded)


def test_server_that_hangs_from_the_start(
    server: Any,
    tracker: MLflowTracker,
    journal: Journal,
    record: Record_,
    run_dir: Path,
    recorded: Any,
    delivered: Any,
) -> None:
    """Breaks if a run whose creation timed out, but happened, is created again."""
    server.start()
    server.signal(signal.SIGSTOP)
    train(tracker, journal, record, range(1, 101))
    time.sleep(8)
    server.signal(signal.SIGCONT)
    assert "everything is delivered" in finish(tracker, run_dir)
    assert_complete(server, delivered, recorded)
