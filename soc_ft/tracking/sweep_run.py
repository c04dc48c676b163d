"""The run of a sweep, below which its jobs' runs hang: shared by jobs that start and end at once.

Every step is taken under a lock in the sweep's folder and can be repeated. Of two jobs that end at
once each notes its own end first, so the later one sees both.
"""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Sequence
from pathlib import Path

from soc_ft.files import locked, publish_file
from soc_ft.layout import SWEEP_FILE, SWEEP_JOBS_FILE, SWEEP_RUN_FILE, SWEEP_RUN_LOCK
from soc_ft.records.json_lines import JsonLines
from soc_ft.records.provenance import without_password
from soc_ft.records.runs import sweep_name
from soc_ft.records.sweep import job_folders
from soc_ft.tracking.store import Store


def find_or_create_parent(store: Store, experiment_id: str, folder: Path, time: float) -> str:
    """Id of the run of the sweep in ``folder``; ``time``, in seconds, is that of its first job."""
    uid = _shared_uid(folder)
    with locked(folder / SWEEP_RUN_LOCK):
        return store.find_or_create_run(
            experiment_id, uid, sweep_name(folder), sweep_tags(folder), time
        )


def note_job(store: Store, parent: str, folder: Path, run_id: str, status: str, time: float) -> str:
    """Note that a job of a sweep began or ended, and give the sweep's run the status that follows.

    The sweep's folder keeps the last status of each job: a job that began does not ask the store
    for hundreds of others.

    Args:
        store: that holds the run of the sweep.
        parent: id of that run.
        folder: of the sweep.
        run_id: of the job.
        status: MLflow's, of the job.
        time: when it began or ended, in seconds.

    Raises:
        RunError: somebody deleted the run of the sweep.
    """
    with locked(folder / SWEEP_RUN_LOCK):
        notes = JsonLines(folder / SWEEP_JOBS_FILE)
        notes.append({"parent": parent, "run": run_id, "status": status})
        notes.close()
        latest = {each["run"]: each["status"] for each in notes.read() if each["parent"] == parent}
        return _set_status(store, parent, folder, list(latest.values()), time)


def update_status(
    store: Store, parent: str, folder: Path, time: float, never_began: int = 0
) -> str:
    """Give the run of a sweep the status that follows from all its jobs' runs, which is returned.

    Args:
        store: that holds the run of the sweep.
        parent: id of that run.
        folder: of the sweep.
        time: when the jobs were looked at, in seconds.
        never_began: number of jobs that came to an end without a run.

    Raises:
        RunError: somebody deleted the run of the sweep.
    """
    with locked(folder / SWEEP_RUN_LOCK):
        children = [*(job.status for job in store.children(parent)), *["FAILED"] * never_began]
        return _set_status(store, parent, folder, children, time)


def _set_status(
    store: Store, parent: str, folder: Path, children: Sequence[str], time: float
) -> str:
    before = store.status(parent)
    status = status_of_sweep(children, submitted=len(job_folders(folder)))
    if status == before:
        return status  # the sweep ended when it first said so
    if status == "RUNNING":
        store.reopen(parent)
    else:
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
