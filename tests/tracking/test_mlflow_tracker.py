"""The background delivery never holds up, or breaks, the training that it reports on."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soc_ft.layout import JOURNAL_FILE
from soc_ft.records.journal import Journal
from soc_ft.tracking.mlflow_tracker import MLflowTracker
from soc_ft.tracking.store import folder_of_mlflow_run

DEAD = "http://me:secret@127.0.0.1:9"  # the discard port: refuses at once
PARAMS = {"lambda": "10"}

Record_ = Callable[[Journal, range], None]


@pytest.fixture
def make_tracker(uri: str) -> Iterator[Callable[..., MLflowTracker]]:
    trackers: list[MLflowTracker] = []

    def make(uri: str = uri) -> MLflowTracker:
        trackers.append(MLflowTracker(uri=uri, run_name="test", interval=0.05))
        return trackers[-1]

    yield make
    for tracker in trackers:
        tracker.close()


def run_id(run_dir: Path) -> str:
    return str(json.loads((run_dir / "tracking" / "state.json").read_text())["run_id"])


def test_importing_and_starting_loads_no_mlflow(tmp_path: Path) -> None:
    """Breaks if the seconds that importing MLflow takes are spent before the first record."""
    script = f"""
import sys
from pathlib import Path
from soc_ft.tracking.mlflow_tracker import MLflowTracker
from soc_ft.tracking.store import folder_of_mlflow_run
tracker = MLflowTracker(path={str(tmp_path)!r})
tracker.start(Path({str(tmp_path / "run")!r}), {{}}, {{}})
tracker.upload(Path({str(tmp_path / "run")!r}) / "config.yaml")
import time
time.sleep(0.5)
assert not {{"mlflow", "torch", "lightning"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_records_arrive_while_the_run_goes_on(
    run_dir: Path,
    make_tracker: Callable[..., MLflowTracker],
    record: Record_,
    recorded: Any,
    delivered: Any,
) -> None:
    """Breaks if delivery waits for the end of the run, or the flush returns before it is done."""
    tracker = make_tracker()
    journal = Journal(run_dir / JOURNAL_FILE)
    tracker.start(run_dir, PARAMS, {})
    record(journal, range(1, 11))
    tracker.notify()
    state = run_dir / "tracking" / "state.json"
    deadline = time.monotonic() + 30
    while not state.exists() or json.loads(state.read_text())["seq"] < 10:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    record(journal, range(11, 21))
    tracker.end("FINISHED")
    assert tracker.flush(30).startswith("MLflow: everything is delivered to sqlite:///")
    assert delivered() == recorded()


def test_the_run_folder_can_be_found_from_mlflow(
    run_dir: Path, uri: str, make_tracker: Callable[..., MLflowTracker]
) -> None:
    """Breaks if a run that is seen in MLflow cannot be evaluated by its id."""
    tracker = make_tracker()
    tracker.start(run_dir, PARAMS, {})
    tracker.flush(30)
    assert folder_of_mlflow_run(run_id(run_dir), uri) == str(run_dir)


def test_a_dead_server_is_one_warning_and_no_delay(
    run_dir: Path,
    make_tracker: Callable[..., MLflowTracker],
    record: Record_,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Breaks if a dead server slows an append, fills the log, or leaks the password, or if the end
    of the run waits for it as long as for one that is slow."""
    tracker = make_tracker(DEAD)
    journal = Journal(run_dir / JOURNAL_FILE)
    with caplog.at_level(logging.INFO):
        tracker.start(run_dir, {"tracking.uri": DEAD}, {"overrides": f"tracking.uri={DEAD}"})
        slowest = 0.0
        for step in range(1, 201):
            began = time.perf_counter()
            record(journal, range(step, step + 1))
            tracker.notify()
            slowest = max(slowest, time.perf_counter() - began)
            time.sleep(0.005)
        began = time.monotonic()
        line = tracker.flush()
    assert time.monotonic() - began < 15
    assert slowest < 0.5
    assert "200 records of metrics and 1 other entries are not delivered" in line
    assert f"python -m soc_ft.tracking {run_dir}" in line
    assert "\n" not in line
    warnings = [r for r in caplog.records if r.name.startswith("soc_ft")]
    assert len(warnings) == 1
    assert "secret" not in caplog.text + line
    on_disk = [f.read_text() for f in (run_dir / "tracking").iterdir()]
    assert not any("secret" in text for text in on_disk)


def test_the_next_process_delivers_what_the_last_one_could_not(
    run_dir: Path,
    make_tracker: Callable[..., MLflowTracker],
    record: Record_,
    recorded: Any,
    delivered: Any,
) -> None:
    """Breaks if what was recorded while the store was away is not delivered by a resume."""
    journal = Journal(run_dir / JOURNAL_FILE)
    dead = make_tracker(DEAD)
    dead.start(run_dir, PARAMS, {})
    record(journal, range(1, 6))
    dead.flush(1.0)
    dead.close()
    alive = make_tracker()
    alive.start(run_dir, PARAMS, {}, resumed=True)
    record(journal, range(6, 9))
    assert "everything is delivered" in alive.flush(30)
    assert delivered() == recorded()


def test_starting_over_with_other_params_is_another_run(
    run_dir: Path,
    make_tracker: Callable[..., MLflowTracker],
    record: Record_,
    recorded: Any,
    delivered: Any,
) -> None:
    """Breaks if a new experiment in an old folder is mistaken for the old one's repetition."""

    def run(params: dict[str, str]) -> str:
        tracker = make_tracker()
        tracker.start(run_dir, params, {})
        journal = Journal(run_dir / JOURNAL_FILE)
        journal.rewind(0)
        record(journal, range(1, 6))
        tracker.flush(30)
        tracker.close()
        return run_id(run_dir)

    first = run({"lambda": "10"})
    assert run({"lambda": "10"}) == first
    assert run({"lambda": "100"}) != first
    assert delivered() == recorded()
