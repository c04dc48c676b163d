"""The few requests that soc_ft makes of an MLflow store, each safe to repeat.

MLflow takes seconds to import, so it is imported when a :class:`Store` is made, not before.
"""

from __future__ import annotations

import getpass
import importlib
import logging
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from soc_ft.errors import ConfigError, RunError
from soc_ft.files import locked, publish_file, remove_drafts
from soc_ft.records.provenance import without_password
from soc_ft.tracking.address import display_uri, sqlite_path

ARTIFACT_FOLDER = "mlartifacts"
UID_TAG = "soc_ft.uid"
RUN_DIR_TAG = "soc_ft.run_dir"
PARENT_TAG = "mlflow.parentRunId"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag that tells MLflow's page that these are training runs, so that it need not guess."""
MAX_POINTS = 1000
MAX_PARAMS = 100
MAX_KEY = 250
MAX_DESCRIPTION = 5000
MAX_VALUE = 500  # of servers back to MLflow 1; config.yaml has the whole value

# One short attempt at a time: the caller tries again, and a dead server must not print a page.
_MLFLOW_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Point:
    """One value of one metric; ``time`` in seconds since the epoch."""

    name: str
    value: float
    step: int
    time: float


@dataclass(frozen=True)
class TrackedRun:
    """A run as the store knows it."""

    run_id: str
    status: str
    params: Mapping[str, str]


class Store:
    """A connection to a tracking URI. Every method raises what MLflow raises."""

    def __init__(self, uri: str) -> None:
        """Import MLflow, which takes seconds, and make an SQLite database that is not there yet.

        Args:
            uri: tracking URI, with what it needs of credentials.
        """
        import_mlflow()
        from mlflow import MlflowClient

        database = sqlite_path(uri)
        if database is not None:
            _create_database(database)
        self._artifact_root = None if database is None else database.parent / ARTIFACT_FOLDER
        self._client = MlflowClient(uri)

    def status(self, run_id: str) -> str | None:
        """MLflow's status of a run, None if it is not here. Raises RunError if it is deleted."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if run.info.lifecycle_stage == "deleted":
            raise RunError(
                f"MLflow run {run_id} is deleted: `mlflow runs restore --run-id {run_id}` to go on"
            )
        return str(run.info.status)

    def run_dir(self, run_id: str) -> str | None:
        """The run folder of a run that is here, if it is known."""
        run = self._client.get_run(run_id).data
        return run.tags.get(RUN_DIR_TAG) or run.params.get("run_dir")  # the param of older runs

    def experiment(self, name: str) -> str:
        """Id of the experiment, created if it is new even if another process does so right now."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = self._artifact_location(name)
            try:
                return str(self._client.create_experiment(name, location, KIND))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage == "deleted":
            raise RunError(
                f"MLflow experiment {name!r} is deleted: restore it or set tracking.experiment"
            )
        return str(found.experiment_id)

    def _artifact_location(self, experiment: str) -> str | None:
        """Beside an SQLite database, where MLflow takes the current folder; else the server's."""
        if self._artifact_root is None:
            return None
        return (self._artifact_root / re.sub(r"[^\w.\-]", "_", experiment)).as_uri()

    def find_or_create_run(
        self,
        experiment_id: str,
        uid: str,
        name: str | None,
        tags: Mapping[str, str],
        start_time: float | None = None,
    ) -> str:
        """Id of the run with this ``uid``, which an earlier attempt may have created unnoticed."""
        found = self._client.search_runs([experiment_id], f"tags.`{UID_TAG}` = '{uid}'")
        if found:
            return str(found[0].info.run_id)
        run = self._client.create_run(
            experiment_id,
            start_time=None if start_time is None else _milliseconds(start_time),
            tags={"mlflow.user": _user(), UID_TAG: uid, **_short(tags)},
            run_name=None if name is None else name[:MAX_KEY],
        )
        return str(run.info.run_id)

    def begin(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Mark the run as running, add params that are new, set tags."""
        from mlflow.entities import Param, RunTag

        self.reopen(run_id)
        for chunk in _chunks(_short(params).items(), MAX_PARAMS):
            self._client.log_batch(run_id, params=[Param(key, value) for key, value in chunk])
        for chunk in _chunks(_short(tags).items(), MAX_PARAMS):
            self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in chunk])

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Add points, in requests of as many as MLflow takes; those it has already stay single."""
        from mlflow.entities import Metric

        for chunk in _chunks(points, MAX_POINTS):
            self._client.log_batch(
                run_id,
                metrics=[
                    Metric(valid_key(p.name), p.value, _milliseconds(p.time), p.step) for p in chunk
                ],
            )

    def upload(self, run_id: str, path: Path, folder: str | None) -> None:
        """Copy a file to a folder among the artifacts; None is their top."""
        self._client.log_artifact(run_id, str(path), folder)

    def experiment_of(self, run_id: str) -> str:
        """Id of the experiment that a run belongs to."""
        return str(self._client.get_run(run_id).info.experiment_id)

    def children(self, run_id: str) -> list[TrackedRun]:
        """The runs below a run, in its experiment, oldest first."""
        experiment_id = self.experiment_of(run_id)
        found: list[TrackedRun] = []
        token: str | None = None
        while token != "":
            page = self._client.search_runs(
                [experiment_id],
                f"tags.`{PARENT_TAG}` = '{run_id}'",
                order_by=["attributes.start_time"],
                page_token=token,
            )
            found += [TrackedRun(run.info.run_id, run.info.status, run.data.params) for run in page]
            token = page.token or ""
        return found

    def tag_experiment(self, experiment_id: str, key: str, value: str) -> None:
        """Set a tag of an experiment, whatever it was."""
        self._client.set_experiment_tag(experiment_id, key, value)

    def describe(self, run_id: str, text: str) -> None:
        """Put a Markdown text on the run's page, as far as it is allowed to be long."""
        if len(text) > MAX_DESCRIPTION:
            text = text[:MAX_DESCRIPTION].rpartition("\n")[0] + "\n"
        self._client.set_tag(run_id, "mlflow.note.content", text)

    def reopen(self, run_id: str) -> None:
        """Mark a run as running."""
        self._client.update_run(run_id, status="RUNNING")

    def end(self, run_id: str, status: str, time: float) -> None:
        """Mark a run as ended at ``time``, in seconds: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(run_id, status, _milliseconds(time))


def looks_like_mlflow_id(run: str) -> bool:
    """Whether it may be the id of an MLflow run, and is no folder."""
    return re.fullmatch(r"[0-9a-f]{32}", run) is not None and not Path(run).is_dir()


def folder_of_mlflow_run(run_id: str, uri: str) -> str:
    """The run folder of an MLflow run. Imports MLflow, which takes seconds.

    Args:
        run_id: 32 hexadecimal digits.
        uri: of the tracking store.

    Raises:
        ConfigError: the store does not know the run or cannot be asked, or the run has no folder.
    """
    where = f"run={run_id}: MLflow at {display_uri(uri)}"
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        raise ConfigError(f"{where} does not exist; set tracking.uri or give the run folder")
    try:
        store = Store(uri)
        folder = store.run_dir(run_id) if store.status(run_id) else None
    except Exception as error:  # of MLflow, its database driver or its HTTP client
        raise ConfigError(f"{where} cannot be asked ({reason(error)})") from error
    if folder is None:
        raise ConfigError(f"{where} has no such run with a run folder; give the folder itself")
    return folder


def import_mlflow() -> None:
    """Spend the seconds that it takes, unless somebody has."""
    for name, value in _MLFLOW_SETTINGS.items():
        os.environ.setdefault(name, value)
    importlib.import_module("mlflow")
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # What they log as errors, with a traceback each time, they raise as well.
    for raising in ("mlflow.store", "sqlalchemy.pool"):
        logging.getLogger(raising).setLevel(logging.CRITICAL)


def reason(error: BaseException) -> str:
    """Why a store cannot be reached, in one line: MLflow wraps the cause in a page of others."""
    while not isinstance(error, RunError) and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    text = without_password(" ".join(str(error).split()))[:MAX_VALUE]
    return text if isinstance(error, RunError) else f"{type(error).__name__}: {text}"


def valid_key(name: str) -> str:
    """The nearest name that MLflow accepts for a param, tag or metric."""
    cleaned = re.sub(r"[^/\w.\- :]", "_", name)
    return posixpath.normpath("/" + cleaned).lstrip("/")[:MAX_KEY] or "_"


def _short(entries: Mapping[str, str]) -> dict[str, str]:
    return {
        valid_key(key): value if len(value) <= MAX_VALUE else value[: MAX_VALUE - 3] + "..."
        for key, value in entries.items()
    }


def _create_database(path: Path) -> None:
    """Let MLflow make its tables in a draft, which then takes its place.

    It does so in dozens of steps, and two jobs of a sweep doing it at once, or one killed
    meanwhile, would leave a database of no use to anybody.
    """
    from mlflow import MlflowClient

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        remove_drafts(path.parent, path.name)
        if not path.exists():
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                MlflowClient(f"sqlite:///{draft}")
            except BaseException:  # of MLflow or its database driver, on a full disk too
                draft.unlink(missing_ok=True)
                raise
            publish_file(draft, path)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return "unknown"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
