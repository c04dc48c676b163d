"""The run of a sweep, below which its jobs' runs hang: shared by jobs that start and end at once.

Every step is taken under a lock in the sweep's folder and can be repeated.
"""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Sequence
from pathlib import Path

from soc_ft.files import locked, publish_file
from soc_ft.records.layout import JOB_FILE, SWEEP_FILE, SWEEP_RUN_FILE, SWEEP_RUN_LOCK
from soc_ft.records.provenance import without_password
from soc_ft.records.runs import sweep_name
from soc_ft.tracking.store import Store


def find_or_create_parent(store: Store, experiment_id: str, folder: Path, time: float) -> str:
    """Id of the run of the sweep in ``folder``; ``time``, in seconds, is that of its first job."""
    uid = _shared_uid(folder)
    with locked(folder / SWEEP_RUN_LOCK):
        return store.find_or_create_run(
            experiment_id, uid, sweep_name(folder), sweep_tags(folder), time
        )


def update_status(
    store: Store, parent: str, folder: Path, time: float, never_began: int = 0
) -> str:
    """Give the run of a sweep the status that follows from its jobs, which is returned.

    Two jobs that end at once each look after their own end is known, so the later one sees both.

    Args:
        store: that holds the run of the sweep.
        parent: id of that run.
        folder: of the sweep.
        time: when a job of it began or ended, in seconds.
        never_began: number of jobs that came to an end without a run.

    Raises:
        RunError: somebody deleted the run of the sweep.
    """
    with locked(folder / SWEEP_RUN_LOCK):
        before = store.status(parent)
        children = [*(job.status for job in store.children(parent)), *["FAILED"] * never_began]
        status = status_of_sweep(children, submitted=sum(1 for _ in folder.rglob(JOB_FILE)))
        if status == "RUNNING":
            store.reopen(parent)
        elif status != before:  # else the sweep ended when it first said so
            store.end(parent, status, time)
        return status


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
        command = json.loads((folder / SWEEP_FILE).read_text())["command"]
        return tags | {"soc_ft.command": without_password(shlex.join(command))}
    except (OSError, ValueError, KeyError, TypeError):  # not there, or of another kind
        return tags


def _shared_uid(folder: Path) -> str:
    """An identity that all jobs of a sweep share: the first one to ask writes it down."""
    path = folder / SWEEP_RUN_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{SWEEP_RUN_FILE}.{uuid.uuid4().hex}"
        draft.write_text(draft.suffix[1:])
        publish_file(draft, path)
    return path.read_text().strip()
