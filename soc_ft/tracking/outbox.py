"""What MLflow is to be told besides the curves: a queue on disk, in the order of events."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from soc_ft.layout import OUTBOX_FILE, TRACKING_FOLDER
from soc_ft.records.json_lines import JsonLines


@dataclass(frozen=True)
class Start:
    """A process begins, or resumes, the run."""

    uri: str
    experiment: str
    run_name: str | None
    sweep_folder: str | None
    params: dict[str, str]
    tags: dict[str, str]
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Artifact:
    """A file, its path relative to the run folder, goes to ``folder`` under ``name``."""

    path: str
    folder: str | None
    name: str


@dataclass(frozen=True)
class End:
    """The run stands still: FINISHED, FAILED or KILLED."""

    status: str
    time: float = field(default_factory=time.time)


Operation = Start | Artifact | End
_KINDS: dict[str, type[Start] | type[Artifact] | type[End]] = {
    "start": Start,
    "artifact": Artifact,
    "end": End,
}


class Outbox:
    """Appends operations for a run folder; :class:`.delivery.Delivery` carries them out."""

    def __init__(self, run_dir: Path) -> None:
        """Name the run folder; the first operation creates the file.

        Args:
            run_dir: the run folder.
        """
        self._run_dir = run_dir
        self._lines = JsonLines(outbox_path(run_dir))

    def last_params(self) -> dict[str, str] | None:
        """Of the latest start, if there was one."""
        starts = [entry for entry in map(from_json, self._lines.read()) if isinstance(entry, Start)]
        return starts[-1].params if starts else None

    def clear(self) -> None:
        """Forget the run, and with it how far it was delivered."""
        shutil.rmtree(self._run_dir / TRACKING_FOLDER, ignore_errors=True)

    def put(self, operation: Operation) -> None:
        """Append an operation.

        Raises:
            RunError: the file cannot be written.
        """
        self._lines.append(to_json(operation))

    def put_file(self, path: Path, folder: str | None, name: str | None = None) -> None:
        """Append a file by its place relative to the run folder, so that both can move."""
        relative = os.path.relpath(path.absolute(), self._run_dir.absolute())
        self.put(Artifact(relative, folder, name or path.name))


def outbox_path(run_dir: Path) -> Path:
    """Where the queue of a run folder is, or would be."""
    return run_dir / TRACKING_FOLDER / OUTBOX_FILE


def to_json(operation: Operation) -> dict[str, Any]:
    """An operation with its ``kind``, as one line of the file holds it."""
    kind = next(kind for kind, cls in _KINDS.items() if isinstance(operation, cls))
    return {"kind": kind, **asdict(operation)}


def from_json(entry: Mapping[str, Any]) -> Operation:
    """The operation that :func:`to_json` wrote."""
    return _KINDS[entry["kind"]](**{key: entry[key] for key in entry if key != "kind"})
