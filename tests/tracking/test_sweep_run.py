"""Jobs of a sweep that start, log and end at once share one parent run, and lose nothing."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from soc_ft.layout import JOURNAL_FILE
from soc_ft.records.journal import Journal
from soc_ft.tracking.mlflow_tracker import MLflowTracker
from soc_ft.tracking.outbox import Outbox, Start
from soc_ft.tracking.store import PARENT_TAG
from soc_ft.tracking.sweep_run import status_of_sweep
from tests.tracking.sweeps import parent_of, put, runs_of

JOBS = 8
STEPS = 150
METRICS = ("train/reward", "train/loss", "train/control_cost", "val/reward")


def job(folder: Path, uri: str, barrier: Any) -> None:
    """What a job does to its tracker, in a process of its own."""
    number = int(folder.name)
    tracker = MLflowTracker(uri=uri, run_name=f"job {number}", interval=0.05)
    journal = Journal(folder / JOURNAL_FILE)
    params = {"lambda": str(number), "seed": "0"} | {f"key.{i}": str(i) for i in range(120)}
    barrier.wait(60)
    tracker.start(folder, params, {"hostname": "here"}, sweep_folder=folder.parent)
    for step in range(STEPS):
        journal.append(step, dict.fromkeys(METRICS, number + step / 7))
        tracker.notify()
        time.sleep(0.01)
    (folder / "config.yaml").write_text(f"lambda: {number}")
    tracker.upload(folder / "config.yaml")
    tracker.end("FINISHED")
    line = tracker.flush(240)
    tracker.close()
    assert "everything is delivered" in line, line


def run_jobs(sweep: Path, uri: str) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mlflow"])
    barrier = processes.Barrier(JOBS)
    jobs = [
        processes.Process(target=job, args=(sweep / str(number), uri, barrier))
        for number in range(JOBS)
    ]
    for each in jobs:
        each.start()
    for each in jobs:
        each.join()
    assert [each.exitcode for each in jobs] == [0] * JOBS


def assert_nothing_is_lost(sweep: Path, uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (parent,), children = runs_of(uri)
    assert parent.info.run_name == "2026-11-21_09-30-00-quickstart"
    assert parent.info.status == "FINISHED"
    assert {child.data.tags[PARENT_TAG] for child in children} == {parent.info.run_id}
    assert {child.info.status for child in children} == {"FINISHED"}
    assert sorted(child.data.params["lambda"] for child in children) == list("01234567")
    names = {each.name for each in client.search_experiments()}
    assert names <= {"Default", "warm-up", "soc_ft"}
    for child in children:
        assert len(child.data.params) == 122
        number = int(child.data.params["lambda"])
        points = Counter(
            (point.key, point.step, point.value)
            for name in METRICS
            for point in client.get_metric_history(child.info.run_id, name)
        )
        assert points == Counter(
            (name, step, number + step / 7) for name in METRICS for step in range(STEPS)
        )
        (file,) = client.list_artifacts(child.info.run_id)
        assert file.path == "config.yaml"


@pytest.mark.slow
def test_eight_jobs_at_once_in_a_new_database(sweep: Path, tmp_path: Path) -> None:
    """Breaks if a locked database, or the race for its tables, experiment or parent loses a job."""
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db?timeout=60"
    run_jobs(sweep, uri)
    assert_nothing_is_lost(sweep, uri)


@pytest.mark.services
def test_eight_jobs_at_once_on_a_server(sweep: Path, server: Any) -> None:
    """Breaks if a server that is asked by eight jobs at once refuses one of them for good."""
    server.start()
    run_jobs(sweep, server.uri)
    assert_nothing_is_lost(sweep, server.uri)


def test_the_sweep_runs_as_long_as_a_job_of_it(sweep: Path, uri: str) -> None:
    """Breaks if the end of one job passes for the end of the sweep, or hides another's failure."""

    def status() -> str:
        return str(parent_of(uri).info.status)

    put(sweep, uri, 0, "start")
    put(sweep, uri, 1, "start", "FAILED")
    assert status() == "RUNNING"
    put(sweep, uri, 0, "FINISHED")
    assert status() == "FAILED"
    put(sweep, uri, 1, "start")
    assert status() == "RUNNING"
    put(sweep, uri, 1, "FINISHED")
    assert status() == "FINISHED"


def test_the_sweep_waits_for_jobs_in_the_queue(sweep: Path, uri: str) -> None:
    """Breaks if a sweep passes for finished whenever none of its jobs happens to run."""
    for number in range(2):
        (sweep / str(number)).mkdir()
        (sweep / str(number) / "job.yaml").write_text("")
    put(sweep, uri, 0, "start", "FINISHED")
    assert parent_of(uri).info.status == "RUNNING"
    put(sweep, uri, 1, "start", "FINISHED")
    assert parent_of(uri).info.status == "FINISHED"


def test_the_sweep_says_what_it_is(sweep: Path, uri: str) -> None:
    """Breaks if a person in front of MLflow cannot find the sweep's folder or repeat it."""
    put(sweep, uri, 0, "start")
    tags = parent_of(uri).data.tags
    assert tags["soc_ft.kind"] == "sweep"
    assert tags["soc_ft.folder"] == str(sweep)
    assert tags["soc_ft.command"] == "python -m soc_ft -m lambda=1,10 tracking.uri=http://host"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"command": 3}'])
def test_a_sweep_may_not_know_its_command(sweep: Path, uri: str, content: str) -> None:
    """Breaks if a damaged sweep.json holds up the curves."""
    (sweep / "sweep.json").write_text(content)
    put(sweep, uri, 0, "start")
    assert "soc_ft.command" not in parent_of(uri).data.tags


def test_a_deleted_sweep_does_not_hold_up_its_jobs(sweep: Path, uri: str) -> None:
    """Breaks if deleting the parent in MLflow stops the delivery of a running job."""
    from mlflow import MlflowClient

    put(sweep, uri, 0, "start")
    MlflowClient(uri).delete_run(parent_of(uri).info.run_id)
    put(sweep, uri, 0, "FINISHED")
    _, (child,) = runs_of(uri)
    assert child.info.status == "FINISHED"


def test_a_sweep_is_delivered_from_elsewhere(sweep: Path, uri: str, tmp_path: Path) -> None:
    """Breaks if a sweep copied from a cluster that cannot reach MLflow is torn into pieces."""
    elsewhere = tmp_path / "copy"
    for number in range(2):
        start = Start(uri, "soc_ft", None, "/not/on/this/machine", {}, {})
        Outbox(sweep / str(number)).put(start)
    sweep.rename(elsewhere)
    for number in range(2):
        put(elsewhere, uri, number, "FINISHED")
    parent, children = runs_of(uri)
    assert [run.info.status for run in parent] == ["FINISHED"]
    assert len(children) == 2


@pytest.mark.parametrize(
    ("children", "submitted", "status"),
    [
        (["FINISHED", "RUNNING", "FAILED"], 0, "RUNNING"),
        (["FINISHED", "SCHEDULED"], 0, "RUNNING"),
        (["FINISHED", "FINISHED"], 3, "RUNNING"),
        (["FINISHED", "FINISHED"], 2, "FINISHED"),
        (["FINISHED", "FAILED"], 2, "FAILED"),
        (["KILLED", "FINISHED"], 0, "FAILED"),
    ],
)
def test_status_of_a_sweep(children: list[str], submitted: int, status: str) -> None:
    """Breaks if a sweep with an interrupted job passes for finished."""
    assert status_of_sweep(children, submitted) == status
