"""A run folder, stores to deliver it to, and what those stores then hold."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from soc_ft.layout import JOURNAL_FILE
from soc_ft.records.journal import Journal
from soc_ft.tracking.outbox import Outbox, Start
from tests.tracking.sweeps import make_sweep

Points = Counter[tuple[str, int, float, int]]
"""How often each (name, step, value, time in ms) occurs."""

BASE_METRICS = ("train/reward", "train/loss", "train/control_cost")
SERVER_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


@pytest.fixture(scope="session", autouse=True)
def _no_inherited_uri() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Creating the tables takes seconds, copying them does not."""
    from soc_ft.tracking.store import Store

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    Store(f"sqlite:///{database}").experiment("warm-up")
    return database


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    """Of a fresh SQLite store."""
    (tmp_path / "store").mkdir()
    shutil.copy(empty_database, tmp_path / "store" / "mlflow.db")
    return f"sqlite:///{tmp_path}/store/mlflow.db?timeout=60"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return make_sweep(tmp_path)


@pytest.fixture
def start_run(run_dir: Path, uri: str) -> Callable[..., Journal]:
    """Put a start into the outbox of the run folder, and return its journal."""

    def start(**changes: object) -> Journal:
        fields: dict[str, object] = {
            "uri": uri,
            "experiment": "soc_ft",
            "run_name": "lambda=10",
            "sweep_folder": None,
            "params": {"lambda": "10"},
            "tags": {"hostname": "here"},
        }
        Outbox(run_dir).put(Start(**(fields | changes)))  # type: ignore[arg-type]
        return Journal(run_dir / JOURNAL_FILE)

    return start


@pytest.fixture
def record() -> Callable[[Journal, range], None]:
    """Append a record for every optimizer step; values follow from the step alone."""

    def append(journal: Journal, steps: range) -> None:
        for step in steps:
            metrics = {name: step + 0.1 * i for i, name in enumerate(BASE_METRICS)}
            journal.append(step, metrics)

    return append


@pytest.fixture
def recorded(run_dir: Path) -> Callable[[], Points]:
    """The points of the journal."""

    def points() -> Points:
        return Counter(
            (name, record.step, value, round(record.time * 1000))
            for record in Journal(run_dir / JOURNAL_FILE).read()
            for name, value in record.metrics.items()
        )

    return points


@pytest.fixture
def delivered(run_dir: Path, uri: str) -> Callable[..., Points]:
    """The points that the store holds for the run of the run folder."""

    def points(uri: str = uri) -> Points:
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        run_id = json.loads((run_dir / "tracking" / "state.json").read_text())["run_id"]
        names = client.get_run(run_id).data.metrics
        return Counter(
            (point.key, point.step, point.value, point.timestamp)
            for name in names
            for point in client.get_metric_history(run_id, name)
        )

    return points


class Server:
    """``mlflow server`` on this machine, to be started, stopped and killed."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = os.environ | SERVER_SETTINGS
        with open(self._folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment
            )
        self._await_health()

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _await_health(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError((self._folder / "server.log").read_text()[-2000:])


@pytest.fixture
def server(empty_database: Path, tmp_path: Path) -> Iterator[Server]:
    """A server that is not started yet; it is gone after the test."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    server = Server(folder)
    yield server
    server.kill()
