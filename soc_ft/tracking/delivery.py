"""Carry what a run folder holds to MLflow: each point once, however often it is interrupted.

Safe to repeat at any moment. Progress is written to ``tracking/state.json`` after each request;
a request whose answer was lost is sent again with the same time stamps, which MLflow's stores
recognise as the same points.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from soc_ft.errors import RunError
from soc_ft.files import locked, remove_drafts, replace_file
from soc_ft.layout import DELIVERY_FILE, DELIVERY_LOCK, JOURNAL_FILE, TRACKING_FOLDER
from soc_ft.records.journal import Journal, Record, of_a_profile
from soc_ft.records.json_lines import JsonLines, JsonLinesTail
from soc_ft.records.sweep import sweep_of
from soc_ft.tracking.address import with_credentials
from soc_ft.tracking.outbox import (
    Artifact,
    End,
    Operation,
    Start,
    from_json,
    outbox_path,
)
from soc_ft.tracking.store import MAX_POINTS, PARENT_TAG, Point, Store
from soc_ft.tracking.sweep_run import find_or_create_parent, note_job

_log = logging.getLogger(__name__)


@dataclass
class DeliveryState:
    """How far delivery got.

    ``seq`` and ``time`` name the last delivered record of the journal. If the journal no longer
    holds it, the run was resumed from before it: the points up to ``horizon`` (the last delivered
    step of each metric) were delivered and will be recorded again, so they are passed over.
    ``operations`` counts the entries of the outbox that are done.
    """

    run_id: str | None = None
    sweep_run_id: str | None = None
    operations: int = 0
    seq: int = 0
    time: float = 0.0
    steps: dict[str, int] = field(default_factory=dict)
    horizon: dict[str, int] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, run_dir: Path) -> DeliveryState:
        """How far the delivery of a run folder got; the start if there was none."""
        path = run_dir / TRACKING_FOLDER / DELIVERY_FILE
        return cls(**json.loads(path.read_text())) if path.is_file() else cls()

    def save(self, run_dir: Path) -> None:
        """Write it down, whole or not at all."""
        path = run_dir / TRACKING_FOLDER / DELIVERY_FILE
        replace_file(path, json.dumps(asdict(self), indent=1).encode())


@dataclass(frozen=True)
class Backlog:
    """What is on disk and not yet delivered."""

    records: int
    operations: int

    def __str__(self) -> str:
        """Both numbers, for a message."""
        return f"{self.records} records of metrics and {self.operations} other entries"

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self.records or self.operations)


class Delivery:
    """Delivers one run folder. Calls block on the store: keep them off the training thread."""

    def __init__(self, run_dir: Path, uri: str | None = None) -> None:
        """Name the run; nothing is read, and no store is asked, before :meth:`deliver`.

        Args:
            run_dir: the run folder.
            uri: tracking URI to use instead of the recorded one.
        """
        self.run_dir = run_dir
        self._folder = run_dir / TRACKING_FOLDER
        self._uri = uri
        self._outbox = JsonLinesTail(outbox_path(run_dir))
        self._journal = JsonLinesTail(run_dir / JOURNAL_FILE)
        self._operations: list[Operation] = []
        self._records: list[Record] = []
        self._state = DeliveryState()
        self._store: Store | None = None
        self._lock: IO[str] | None = None

    def deliver(self) -> None:
        """Deliver everything that is on disk now.

        Raises:
            RunError: another process is delivering this run, or the run was deleted in MLflow.
            Exception: whatever MLflow raises when its store cannot be reached; try again later.
        """
        self._operations += map(from_json, self._outbox.read())
        if not self._operations:
            return
        target = self._store or self._connect()
        self._deliver_records(target)
        while self._state.operations < len(self._operations):
            self._carry_out(target, self._operations[self._state.operations])
            self._state.operations += 1
            self._save()

    def close(self) -> None:
        """Let another process deliver this run."""
        for file in (self._outbox, self._journal, self._lock):
            if file is not None:
                file.close()
        self._store = self._lock = None

    def _exclusive(self) -> IO[str]:
        try:
            return locked(self._folder / DELIVERY_LOCK, wait=False)
        except BlockingIOError as error:
            raise RunError("another process is delivering this run") from error

    def _connect(self) -> Store:
        """Find the run where it was left, or create it (anew, if the store does not know it)."""
        if self._lock is None:
            self._lock = self._exclusive()
            remove_drafts(self._folder)
        self._state = DeliveryState.load(self.run_dir)
        starts = [operation for operation in self._operations if isinstance(operation, Start)]
        target = Store(with_credentials(self._uri or starts[-1].uri))
        if self._state.run_id is not None and target.status(self._state.run_id) is None:
            self._state = DeliveryState()
        if self._state.run_id is None:
            self._create_run(target, starts[0])
            self._save()
        self._store = target
        return target

    def _create_run(self, target: Store, start: Start) -> None:
        experiment_id = target.experiment(start.experiment)
        tags = dict(start.tags)
        if start.sweep_folder is not None:
            parent = find_or_create_parent(
                target, experiment_id, self._sweep_folder(start), start.time
            )
            self._state.sweep_run_id = tags[PARENT_TAG] = parent
        self._state.run_id = target.find_or_create_run(
            experiment_id, start.uid, start.run_name, tags, start.time
        )

    def _save(self) -> None:
        self._state.save(self.run_dir)

    def _deliver_records(self, target: Store) -> None:
        restarts = self._journal.restarts
        records = [Record.from_json(entry) for entry in self._journal.read()]
        if self._journal.restarts > restarts:
            self._records = self._from_watermark(records)
        else:
            self._records += records
        while self._records:
            batch = _first_batch(self._records)
            points = [
                Point(name, value, record.step, record.time)
                for record in batch
                for name, value in record.metrics.items()
                if record.step > self._state.horizon.get(name, -1)
                and not of_a_profile(name)  # a chart a point would bury the others
            ]
            target.log_points(self._run_id, points)
            self._state.steps |= {point.name: point.step for point in points}
            self._state.seq, self._state.time = batch[-1].seq, batch[-1].time
            self._save()
            del self._records[: len(batch)]

    def _from_watermark(self, records: list[Record]) -> list[Record]:
        """The undelivered ones of a journal that was read from its top."""
        for index, record in enumerate(records):
            if (record.seq, record.time) == (self._state.seq, self._state.time):
                return records[index + 1 :]
        self._state.horizon = dict(self._state.steps)
        return records

    def _carry_out(self, target: Store, operation: Operation) -> None:
        match operation:
            case Start():
                self._begin(target, operation)
            case Artifact():
                self._upload(target, operation)
            case End():
                self._deliver_records(target)
                target.end(self._run_id, operation.status, operation.time)
                self._update_sweep(target, operation.status, operation.time)

    def _begin(self, target: Store, start: Start) -> None:
        """Params cannot change in MLflow: tags tell what a resumed run changed."""
        known = self._state.params
        new = {key: value for key, value in start.params.items() if key not in known}
        changed = {
            f"changed_on_resume/{key}": f"{known[key]} -> {value}"
            for key, value in start.params.items()
            if known.get(key, value) != value
        }
        target.begin(self._run_id, new, start.tags | changed)
        self._state.params |= start.params
        self._update_sweep(target, "RUNNING", start.time)

    def _update_sweep(self, target: Store, status: str, time: float) -> None:
        if self._state.sweep_run_id is None:
            return
        first = next(each for each in self._operations if isinstance(each, Start))
        try:
            folder, parent = self._sweep_folder(first), self._state.sweep_run_id
            note_job(target, parent, folder, self._run_id, status, time)
        except RunError as error:  # whoever deleted the sweep wants its jobs' runs nevertheless
            _log.warning("%s", error)

    def _sweep_folder(self, start: Start) -> Path:
        """The recorded one, or the one around a run that was moved to another place."""
        assert start.sweep_folder is not None
        recorded = Path(start.sweep_folder)
        if recorded.is_dir():
            return recorded
        return sweep_of(self.run_dir.absolute()) or self.run_dir.absolute().parent

    def _upload(self, target: Store, artifact: Artifact) -> None:
        source = self.run_dir / artifact.path
        if not source.is_file():
            _log.warning("%s: gone before MLflow could have it", source)
            return
        with tempfile.TemporaryDirectory() as folder:
            named = Path(folder) / artifact.name
            named.symlink_to(source.absolute())
            try:
                target.upload(self._run_id, named, artifact.folder)
            except (PermissionError, NotADirectoryError) as error:
                # Typical of a server whose artifact location is a path on its own disk. The rest
                # of the run, its status above all, must not wait for that to be put right.
                _log.warning("%s stays in the run folder alone: %s", source, error)

    @property
    def _run_id(self) -> str:
        assert self._state.run_id is not None
        return self._state.run_id


def backlog(run_dir: Path) -> Backlog:
    """What a run folder holds that MLflow does not have yet."""
    state = DeliveryState.load(run_dir)
    records = Journal(run_dir / JOURNAL_FILE).read()
    delivered = [(record.seq, record.time) for record in records]
    watermark = (state.seq, state.time)
    first = delivered.index(watermark) + 1 if watermark in delivered else 0
    operations = len(JsonLines(outbox_path(run_dir)).read()) - state.operations
    return Backlog(len(records) - first, operations)


def _first_batch(records: list[Record]) -> list[Record]:
    """As many whole records as one request holds, at least one."""
    points = 0
    for count, record in enumerate(records):
        points += len(record.metrics)
        if count and points > MAX_POINTS:
            return records[:count]
    return list(records)
