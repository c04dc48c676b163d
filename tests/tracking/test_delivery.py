"""Everything in a run folder reaches MLflow once, however delivery is interrupted."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soc_ft.errors import RunError
from soc_ft.records.journal import Journal
from soc_ft.tracking import address
from soc_ft.tracking import store as store_module
from soc_ft.tracking.__main__ import main
from soc_ft.tracking.delivery import Delivery, backlog
from soc_ft.tracking.outbox import End, Outbox

Start_ = Callable[..., Journal]
Record_ = Callable[[Journal, range], None]


@pytest.fixture
def delivery(run_dir: Path) -> Iterator[Delivery]:
    delivery = Delivery(run_dir)
    yield delivery
    delivery.close()


def deliver_as_new_process(run_dir: Path) -> None:
    delivery = Delivery(run_dir)
    delivery.deliver()
    delivery.close()


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def run_of(run_dir: Path, uri: str) -> Any:
    state = json.loads((run_dir / "tracking" / "state.json").read_text())
    return client(uri).get_run(state["run_id"])


def test_every_point_arrives_once(
    delivery: Delivery, start_run: Start_, record: Record_, recorded: Any, delivered: Any
) -> None:
    """Breaks if a batch boundary loses or repeats a point, or a value, step or time changes."""
    journal = start_run()
    record(journal, range(1, 500))
    delivery.deliver()
    record(journal, range(500, 520))
    delivery.deliver()
    delivery.deliver()
    assert delivered() == recorded()
    assert sum(delivered().values()) == 519 * 3
    assert not backlog(delivery.run_dir)


def test_more_metrics_than_one_request_takes(
    delivery: Delivery, uri: str, start_run: Start_, run_dir: Path
) -> None:
    """Breaks if a record larger than MLflow's limit of 1000 blocks delivery."""
    metrics = {f"m{i}": float(i) for i in range(2300)}
    start_run().append(1, metrics)
    delivery.deliver()
    assert run_of(run_dir, uri).data.metrics == metrics


def test_values_that_are_not_finite_arrive(
    delivery: Delivery, start_run: Start_, delivered: Any
) -> None:
    """Breaks if a diverged loss stops the delivery of everything after it."""
    journal = start_run()
    journal.append(1, {"a": math.nan, "b": -math.inf})
    journal.append(2, {"a": 1.0})
    delivery.deliver()
    values = {(name, step): value for name, step, value, _ in delivered()}
    assert math.isnan(values["a", 1])
    assert values["b", 1] < -1e308
    assert values["a", 2] == 1.0


def test_a_request_whose_answer_was_lost_is_not_delivered_twice(
    run_dir: Path, start_run: Start_, record: Record_, recorded: Any, delivered: Any
) -> None:
    """Breaks if points are sent again with new time stamps after a kill between send and save."""
    journal = start_run()
    record(journal, range(1, 11))
    deliver_as_new_process(run_dir)
    before = (run_dir / "tracking" / "state.json").read_text()
    record(journal, range(11, 21))
    deliver_as_new_process(run_dir)
    (run_dir / "tracking" / "state.json").write_text(before)
    record(journal, range(21, 31))
    deliver_as_new_process(run_dir)
    assert delivered() == recorded()


def test_a_run_created_unnoticed_is_found_again(
    run_dir: Path, uri: str, start_run: Start_, record: Record_
) -> None:
    """Breaks if a kill right after the run's creation leaves a second, empty run."""
    record(start_run(), range(1, 3))
    deliver_as_new_process(run_dir)
    first = run_of(run_dir, uri).info.run_id
    (run_dir / "tracking" / "state.json").unlink()
    deliver_as_new_process(run_dir)
    assert run_of(run_dir, uri).info.run_id == first


@pytest.mark.parametrize("delivered_to", [8, 14, 20])
def test_a_resume_repeats_no_point(
    run_dir: Path,
    uri: str,
    start_run: Start_,
    record: Record_,
    delivered: Any,
    delivered_to: int,
) -> None:
    """Breaks if records that a resumed run writes again are delivered again, or are lost.

    The checkpoint is at step 10; delivery was behind it, past it, or complete when the run died
    at step 20.
    """
    journal = start_run()
    record(journal, range(1, delivered_to + 1))
    deliver_as_new_process(run_dir)
    first = run_of(run_dir, uri).info.run_id
    record(journal, range(delivered_to + 1, 21))

    resumed = start_run()
    resumed.rewind(10)
    record(resumed, range(11, 26))
    deliver_as_new_process(run_dir)

    assert run_of(run_dir, uri).info.run_id == first
    arrived = [(name, step) for name, step, _, _ in delivered().elements()]
    names = ("train/control_cost", "train/loss", "train/reward")
    assert sorted(arrived) == [(name, step) for name in names for step in range(1, 26)]


def test_a_resume_that_records_more_shifts_nothing(
    run_dir: Path, start_run: Start_, record: Record_, delivered: Any
) -> None:
    """Breaks if the watermark counts records only: an extra one would then push out another."""
    journal = start_run()
    record(journal, range(1, 21))
    deliver_as_new_process(run_dir)
    resumed = start_run()
    resumed.rewind(10)
    resumed.append(10, {"resumed": 1.0})
    record(resumed, range(11, 23))
    deliver_as_new_process(run_dir)
    steps = sorted(step for name, step, _, _ in delivered().elements() if name == "train/loss")
    assert steps == list(range(1, 23))
    assert [step for name, step, _, _ in delivered() if name == "resumed"] == [10]


def test_a_resume_seen_by_the_same_process(
    delivery: Delivery, start_run: Start_, record: Record_, delivered: Any
) -> None:
    """Breaks if a delivery that is running misses that the journal was rewound beneath it."""
    journal = start_run()
    record(journal, range(1, 21))
    delivery.deliver()
    journal.rewind(10)
    record(journal, range(11, 31))
    delivery.deliver()
    steps = sorted(step for name, step, _, _ in delivered().elements() if name == "train/loss")
    assert steps == list(range(1, 31))


def test_the_run_is_described(
    delivery: Delivery, uri: str, start_run: Start_, run_dir: Path
) -> None:
    """Breaks if name, experiment, params, tags or status do not reach the store."""
    many = {f"key{i}": str(i) for i in range(250)}
    start_run(params=many | {"long": "x" * 9000, "odd (key)//": ""}, tags={"t": "v" * 9000})
    Outbox(run_dir).put(End("FAILED"))
    delivery.deliver()
    run = run_of(run_dir, uri)
    assert run.info.run_name == "lambda=10"
    assert run.info.status == "FAILED"
    experiment = client(uri).get_experiment(run.info.experiment_id)
    assert experiment.name == "soc_ft"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert {key: run.data.params[key] for key in many} == many
    assert run.data.params["long"] == "x" * 497 + "..."
    assert run.data.params["odd _key_"] == ""
    assert run.data.tags["t"].startswith("vvv")


def test_files_are_attached(
    delivery: Delivery, uri: str, start_run: Start_, run_dir: Path, tmp_path: Path
) -> None:
    """Breaks if a file arrives under another name, or one that is gone blocks what follows."""
    start_run()
    outbox = Outbox(run_dir)
    (run_dir / "config.yaml").write_text("lambda: 10")
    (run_dir / "samples").mkdir()
    (run_dir / "samples" / "step-7.png").write_bytes(b"png")
    outbox.put_file(run_dir / "gone.txt", None)
    outbox.put_file(run_dir / "samples" / "step-7.png", "pictures/samples", "00000007.png")
    outbox.put_file(run_dir / "config.yaml", None)
    delivery.deliver()
    run = run_of(run_dir, uri)
    stored = tmp_path / "store" / "mlartifacts" / "soc_ft" / run.info.run_id / "artifacts"
    assert run.info.artifact_uri == stored.as_uri()
    files = {str(f.relative_to(stored)): f.read_bytes() for f in stored.rglob("*") if f.is_file()}
    assert files == {"config.yaml": b"lambda: 10", "pictures/samples/00000007.png": b"png"}


def test_an_artifact_location_out_of_reach_does_not_hold_up_the_rest(
    delivery: Delivery, uri: str, start_run: Start_, run_dir: Path, tmp_path: Path
) -> None:
    """Breaks if a server with a misconfigured artifact location never learns that a run ended."""
    start_run()
    (tmp_path / "store" / "mlartifacts").write_text("in the way")
    (run_dir / "config.yaml").write_text("lambda: 10")
    Outbox(run_dir).put_file(run_dir / "config.yaml", None)
    Outbox(run_dir).put(End("FINISHED"))
    delivery.deliver()
    assert run_of(run_dir, uri).info.status == "FINISHED"


def test_a_resume_may_change_the_configuration(run_dir: Path, uri: str, start_run: Start_) -> None:
    """Breaks if a changed param, which MLflow refuses, blocks the run or goes unnoticed."""
    start_run(params={"trainer.steps": "100", "lambda": "10"})
    Outbox(run_dir).put(End("KILLED"))
    deliver_as_new_process(run_dir)
    start_run(params={"trainer.steps": "200", "lambda": "10", "new": "1"}, tags={"slurm": "2"})
    deliver_as_new_process(run_dir)
    run = run_of(run_dir, uri)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"trainer.steps": "100", "lambda": "10", "new": "1"}
    assert run.data.tags["changed_on_resume/trainer.steps"] == "100 -> 200"
    assert "changed_on_resume/lambda" not in run.data.tags
    assert run.data.tags["slurm"] == "2"


def test_a_lost_store_is_filled_again(
    run_dir: Path,
    tmp_path: Path,
    empty_database: Path,
    start_run: Start_,
    record: Record_,
    recorded: Any,
    delivered: Any,
) -> None:
    """Breaks if a run whose store was deleted or replaced has its early points nowhere."""
    journal = start_run()
    record(journal, range(1, 6))
    deliver_as_new_process(run_dir)
    (tmp_path / "other").mkdir()
    shutil.copy(empty_database, tmp_path / "other" / "mlflow.db")
    other = f"sqlite:///{tmp_path}/other/mlflow.db"
    start_run(uri=other)
    record(journal, range(6, 9))
    deliver_as_new_process(run_dir)
    assert delivered(other) == recorded()


def test_a_deleted_run_stays_deleted(
    run_dir: Path, uri: str, start_run: Start_, record: Record_
) -> None:
    """Breaks if deleting a run in MLflow brings up another one, or says nothing."""
    record(start_run(), range(1, 3))
    deliver_as_new_process(run_dir)
    client(uri).delete_run(run_of(run_dir, uri).info.run_id)
    with pytest.raises(RunError, match="mlflow runs restore"):
        deliver_as_new_process(run_dir)


def test_a_deleted_experiment_is_one_clear_error(
    run_dir: Path, uri: str, start_run: Start_
) -> None:
    """Breaks if the name of a deleted experiment, still taken, ends in MLflow's own trace."""
    store = client(uri)
    store.delete_experiment(store.create_experiment("soc_ft"))
    start_run()
    with pytest.raises(RunError, match=r"'soc_ft' is deleted.*tracking\.experiment"):
        deliver_as_new_process(run_dir)


def test_one_process_at_a_time(
    delivery: Delivery, run_dir: Path, start_run: Start_, record: Record_
) -> None:
    """Breaks if delivering by hand while the run goes on can send points twice."""
    record(start_run(), range(1, 3))
    delivery.deliver()
    with pytest.raises(RunError, match="another process is delivering"):
        deliver_as_new_process(run_dir)


@pytest.mark.slow
def test_jobs_of_a_sweep_may_find_no_database(tmp_path: Path) -> None:
    """Breaks if processes that create the tables at once leave a wreck, as MLflow alone does."""
    database = tmp_path / "runs" / "mlflow.db"
    script = (
        "import sys; from soc_ft.tracking.store import Store;"
        "print(Store(sys.argv[1]).experiment('race'))"
    )
    command = [sys.executable, "-c", script, f"sqlite:///{database}?timeout=60"]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    experiments = [job.communicate()[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * 4
    assert len(set(experiments)) == 1
    assert {path.name for path in database.parent.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}


def test_the_command_line_delivers_and_says_so(
    run_dir: Path,
    start_run: Start_,
    record: Record_,
    recorded: Any,
    delivered: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Breaks if the command that the log recommends does not deliver what is left."""
    record(start_run(), range(1, 6))
    assert main([str(run_dir)]) == 0
    assert "delivered 5 records of metrics and 1 other entries" in capsys.readouterr().out
    assert delivered() == recorded()
    assert main([str(run_dir)]) == 0
    assert "delivered 0 records" in capsys.readouterr().out


def test_the_command_line_names_what_is_wrong(
    run_dir: Path, tmp_path: Path, start_run: Start_, capsys: pytest.CaptureFixture[str]
) -> None:
    """Breaks if a folder without a run, or a dead server, ends in a traceback or in success."""
    assert main([str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    start_run(uri="http://127.0.0.1:9")
    assert main([str(run_dir)]) == 1
    error = capsys.readouterr().err
    assert "0 records of metrics and 1 other entries are not delivered" in error
    assert "(ConnectionRefusedError: [Errno 111] Connection refused)" in error
    assert error.count("\n") == 1


def test_passwords_stay_off_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Breaks if the credentials of MLFLOW_TRACKING_URI cannot be put back, or go elsewhere."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/mlflow")
    assert address.default_uri(tmp_path) == "https://me:secret@host/mlflow"
    assert address.with_credentials("https://host/mlflow") == "https://me:secret@host/mlflow"
    assert address.with_credentials("https://other/mlflow") == "https://other/mlflow"
    assert address.display_uri("https://me:secret@host/mlflow") == "https://host/mlflow"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("train/reward", "train/reward"),
        ("a//b/../c", "a/c"),
        ("../up", "up"),
        ("λ=10 (%)", "λ_10 ___"),
        ("", "_"),
        ("k" * 300, "k" * 250),
    ],
)
def test_names_become_acceptable(name: str, key: str) -> None:
    """Breaks if a name that MLflow refuses would block the delivery of a whole batch."""
    from mlflow.utils.validation import _validate_metric_name

    assert store_module.valid_key(name) == key
    _validate_metric_name(key)
