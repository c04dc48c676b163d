"""The run of a sweep, below which its jobs' runs hang: shared by jobs that start and end at once.

Every step is taken under a lock in the sweep's folder and can be repeated.
"""

from __future__ import annotations

import json
import logging
import shlex
import uuid
from collections.abc import Sequence
from pathlib import Path

from soc_ft.errors import RunError
from soc_ft.files import locked, publish_file
from soc_ft.runs import sweep_name
from soc_ft.tracking.provenance import without_password
from soc_ft.tracking.store import Store

SWEEP_NAME = ".mlflow_sweep"
LOCK_NAME = f"{SWEEP_NAME}.lock"
SUBMITTED_NAME = "sweep.json"
"""What was typed to start the sweep."""
SNAPSHOTS = "*/job.yaml"
"""A file for each job that was submitted."""

_log = logging.getLogger(__name__)


def find_or_create_parent(store: Store, experiment_id: str, folder: Path, time: float) -> str:
    """Id of the run of the sweep in ``folder``; ``time``, in seconds, is that of its first job."""
    uid = _shared_uid(folder)
    with locked(folder / LOCK_NAME):
        return store.find_or_create_run(
            experiment_id, uid, sweep_name(folder), sweep_tags(folder), time
        )


def settle(store: Store, parent: str, folder: Path, time: float) -> None:
    """Give the run of a sweep the status that follows from its jobs.

    Two jobs that end at once each look after their own end is known, so the later one sees both.

    Args:
        folder: of the sweep.
        time: when a job of it began or ended, in seconds.
    """
    with locked(folder / LOCK_NAME):
        try:
            if not store.holds(parent):
                return
        except RunError as error:  # whoever deleted it wants it gone, and the jobs' runs delivered
            _log.warning("%s", error)
            return
        children = store.statuses_of_children(parent)
        submitted = sum(1 for _ in folder.glob(SNAPSHOTS))
        status = status_of_sweep(children, submitted)
        if status == "RUNNING":
            store.reopen(parent)
        else:
            store.end(parent, status, time)


def status_of_sweep(children: Sequence[str], submitted: int = 0) -> str:
    """RUNNING while a job runs or is to come, then FINISHED, or FAILED if a job did not finish.

    Args:
        children: MLflow's status of each job that began.
        submitted: number of jobs that are known to belong to the sweep.
    """
    if len(children) < submitted or not {"RUNNING", "SCHEDULED"}.isdisjoint(children):
        return "RUNNING"
    return "FINISHED" if set(children) <= {"FINISHED"} else "FAILED"


def sweep_tags(folder: Path) -> dict[str, str]:
    """What the run of a sweep is, where its folder is, and what was typed if that is known."""
    tags = {"soc_ft.kind": "sweep", "soc_ft.folder": str(folder.absolute())}
    try:
        command = json.loads((folder / SUBMITTED_NAME).read_text())["command"]
        return tags | {"soc_ft.command": without_password(shlex.join(command))}
    except (OSError, ValueError, KeyError, TypeError):  # not there, or of another kind
        return tags


def _shared_uid(folder: Path) -> str:
    """An identity that all jobs of a sweep share: the first one to ask writes it down."""
    path = folder / SWEEP_NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{SWEEP_NAME}.{uuid.uuid4().hex}"
        draft.write_text(draft.suffix[1:])
        publish_file(draft, path)
    return path.read_text().strip()
