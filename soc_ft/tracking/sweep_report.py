"""The report of a sweep, attached to the sweep's run in MLflow."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from soc_ft.errors import RunError
from soc_ft.layout import OUTBOX_FILE, TRACKING_FOLDER
from soc_ft.records.json_lines import JsonLines
from soc_ft.records.runs import sweep_name
from soc_ft.records.sweep import job_folders
from soc_ft.tracking.address import display_uri, sqlite_path, with_credentials
from soc_ft.tracking.delivery import DeliveryState, backlog
from soc_ft.tracking.outbox import End, Operation, Start, from_json, outbox_path
from soc_ft.tracking.store import Store, import_mlflow, reason
from soc_ft.tracking.sweep_run import update_status
from soc_ft.tracking.views import links, run_page, sweep_view

ARTIFACT_FOLDER = "report"
FILES = ("README.md", "index.html", "results.csv", "*.png")
PATIENCE = 10.0
PATIENCE_WITH_FILE = 60.0
"""Seconds without a sign of life after which a server, or a locked database, is given up."""

_RELATIVE_LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:)[^)]*\)")


@dataclass(frozen=True)
class TrackedJob:
    """What the folder of a job says of its tracking."""

    folder: Path
    operations: Sequence[Operation]
    state: DeliveryState

    @property
    def uri(self) -> str:
        """Tracking URI of its latest start."""
        return [each.uri for each in self.operations if isinstance(each, Start)][-1]

    @property
    def left_behind(self) -> bool:
        """Whether it ended before everything was delivered."""
        return isinstance(self.operations[-1], End) and bool(backlog(self.folder))


def link_report(sweep: Path, report: Path, failed: Collection[Path] = ()) -> str:
    """Attach a report to the run of its sweep, and update the sweep's status.

    Can be repeated. It takes seconds, some ten of them if a server does not answer: call it when
    the jobs are done, not from one of them.

    Args:
        sweep: folder of the sweep.
        report: folder of the report.
        failed: folders of jobs that are known to have come to an end without finishing, since one
            that was killed could not say so.

    Returns:
        What came of it, in one line. Nothing is raised.
    """
    try:
        jobs = _tracked_jobs(sweep)
        if not jobs:
            return "MLflow: no job of this sweep was tracked"
        # One, unless the jobs were told to go to several stores or experiments.
        runs = {(job.uri, job.state.sweep_run_id): None for job in jobs if job.state.sweep_run_id}
        said = [_attach(Attachment(*run, sweep, report, failed)) for run in runs]
        line = "; ".join(said) or "nothing of this sweep is delivered"
        left = [str(job.folder) for job in jobs if job.left_behind]
        remedy = f"; to deliver the rest: python -m soc_ft.tracking {shlex.join(left)}"
        return f"MLflow: {line}{remedy if left else ''}"
    except Exception as error:  # of MLflow, its database driver or its HTTP client
        again = f"python -m soc_ft.report {shlex.quote(str(sweep))}"
        return f"MLflow: the report is not attached ({reason(error)}); to try again: {again}"


def _tracked_jobs(sweep: Path) -> list[TrackedJob]:
    jobs = []
    for folder in sorted(job_folders(sweep, f"{TRACKING_FOLDER}/{OUTBOX_FILE}")):
        operations = [from_json(entry) for entry in JsonLines(outbox_path(folder)).read()]
        if any(isinstance(each, Start) and each.sweep_folder for each in operations):
            jobs.append(TrackedJob(folder, operations, DeliveryState.load(folder)))
    return jobs


def _attach(attachment: Attachment) -> str:
    import_mlflow()  # its seconds are not the server's
    database = sqlite_path(attachment.uri)
    if database is not None and not database.is_file():
        raise RunError(f"{database} is gone")
    return _last_of(attachment.steps(), PATIENCE if database is None else PATIENCE_WITH_FILE)


@dataclass(frozen=True)
class Attachment:
    """What is to be told about a sweep to its run in a store."""

    uri: str
    run_id: str
    sweep: Path
    report: Path
    failed: Collection[Path]

    def steps(self) -> Iterator[str]:
        """Carry it out. Yields after each request, and at last what came of it."""
        store = Store(with_credentials(self.uri))
        yield "connected"
        if store.status(self.run_id) is None:
            raise RunError(f"{display_uri(self.uri)} does not know this sweep")
        experiment_id = store.experiment_of(self.run_id)
        yield "found"
        stored = yield from self._upload(store)
        status = yield from self._update_status(store)
        jobs = store.children(self.run_id)
        pages = links(experiment_id, self.run_id, jobs, f"{ARTIFACT_FOLDER}/index.html")
        store.describe(self.run_id, f"{pages}\n\n{description(self.report)}")
        yield "described"
        store.tag_experiment(experiment_id, *sweep_view(self.run_id, jobs))
        where = f"{sweep_name(self.sweep)} in {display_uri(self.uri)}"
        if self.uri.startswith("http"):
            where = f"{display_uri(self.uri).rstrip('/')}/{run_page(experiment_id, self.run_id)}"
        yield f"report attached to {where} ({status.lower()}{stored})"

    def _upload(self, store: Store) -> Generator[str, None, str]:
        for path in (path for pattern in FILES for path in sorted(self.report.glob(pattern))):
            try:
                store.upload(self.run_id, path, ARTIFACT_FOLDER)
            except (PermissionError, NotADirectoryError) as error:
                return f", without its files: {reason(error)}"
            yield path.name
        return ""

    def _update_status(self, store: Store) -> Generator[str, None, str]:
        """Close the runs of jobs that could not do so, then the sweep's; returns its status."""
        now = time.time()
        jobs = {job.run_id: job.status for job in store.children(self.run_id)}
        ended = [DeliveryState.load(folder).run_id or "" for folder in self.failed]
        for run_id in ended:
            if jobs.get(run_id) == "RUNNING":
                store.end(run_id, "FAILED", now)
                yield "closed"
        never_began = sum(run_id not in jobs for run_id in ended)
        status = update_status(store, self.run_id, self.sweep, now, never_began)
        yield status
        return status


def description(report: Path) -> str:
    """Where a report is, and the part of it that needs no other file, as Markdown."""
    text = (report / "README.md").read_text()
    tables = text.partition("![")[0].rpartition("\n## ")[0] if "![" in text else text
    lines = [line for line in tables.splitlines() if not line.startswith("# ")]
    body = _RELATIVE_LINK.sub(r"\1", "\n".join(lines).strip())
    return f"On disk: `{report.absolute()}`\n\n{body}\n"


def _last_of(steps: Iterator[str], patience: float) -> str:
    """The last of ``steps``, whatever of it hangs.

    Raises:
        RunError: a step took longer than ``patience`` seconds.
        Exception: what a step raised.
    """
    signs: Queue[str | Exception | None] = Queue()

    def work() -> None:
        try:
            for step in steps:
                signs.put(step)
            signs.put(None)
        except Exception as error:  # raised below, in the thread that waits
            signs.put(error)

    Thread(target=work, name="mlflow report", daemon=True).start()
    last = ""
    while True:
        try:
            sign = signs.get(timeout=patience)
        except Empty:
            raise RunError(f"no answer for {patience:g} s") from None
        if sign is None:
            return last
        if isinstance(sign, Exception):
            raise sign
        last = sign
