"""A run that is killed again and again reaches MLflow as if it had never been."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from soc_ft.files import replace_file
from soc_ft.layout import JOURNAL_FILE
from soc_ft.records.journal import Journal
from soc_ft.tracking.mlflow_tracker import MLflowTracker

STEPS = 400
CHECKPOINT_EVERY = 30
KILLS = 5
LEAD = 40
"""Records that may wait for their delivery, so that kills meet both in progress."""


def train(run_dir: Path, uri: str) -> None:
    """Record every step, and go on from the last checkpoint when started again."""
    checkpoint = run_dir / "checkpoint.json"
    journal = Journal(run_dir / JOURNAL_FILE)
    tracker = MLflowTracker(uri=uri, interval=0.02)
    first, position = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 0)
    tracker.start(run_dir, {"lambda": "10"}, {}, resumed=checkpoint.exists())
    journal.rewind(position)
    for step in range(first + 1, STEPS + 1):
        journal.append(step, {"train/loss": step / 7, "train/reward": -step})
        tracker.notify()
        while journal.position() - delivered_records(run_dir) > LEAD:
            time.sleep(0.002)
        if step % CHECKPOINT_EVERY == 0:
            replace_file(checkpoint, json.dumps([step, journal.position()]).encode())
    tracker.end("FINISHED")
    tracker.flush(120)
    tracker.close()


def delivered_records(run_dir: Path) -> int:
    state = run_dir / "tracking" / "state.json"
    return int(json.loads(state.read_text())["seq"]) if state.exists() else 0


@pytest.mark.slow
def test_every_point_arrives_once_through_kills(run_dir: Path, uri: str, delivered: Any) -> None:
    """Breaks if any moment at which a process is killed loses, repeats or changes a point."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mlflow"])
    moments = random.Random(0)
    for _ in range(KILLS):
        process = processes.Process(target=train, args=(run_dir, uri))
        last = delivered_records(run_dir) + moments.randint(20, 80)
        process.start()
        while delivered_records(run_dir) < last:
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process = processes.Process(target=train, args=(run_dir, uri))
    process.start()
    process.join()
    assert process.exitcode == 0
    arrived = sorted((name, step, value) for name, step, value, _ in delivered().elements())
    assert arrived == sorted(
        (name, step, value)
        for step in range(1, STEPS + 1)
        for name, value in (("train/loss", step / 7), ("train/reward", -step))
    )
