"""A sweep as its folder tells it: jobs, configurations, journals, validations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError
from soc_ft.records.identity import config_hash
from soc_ft.records.job import Submission
from soc_ft.records.json_lines import JsonLines
from soc_ft.records.layout import (
    CHOICES_FILE,
    CONFIG_FILE,
    JOURNAL_FILE,
    RESULTS_FILE,
    SWEEP_FILE,
)
from soc_ft.records.plain_yaml import read_yaml
from soc_ft.records.runs import sweep_name
from soc_ft.records.sweep import code_tags
from soc_ft.reporting.journals import JournalColumns
from soc_ft.sweeps.status import JobStatus, read_sweep
from soc_ft.tracking.outbox import outbox_path

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class RunResult:
    """One job of a sweep and what it left so far.

    Attributes:
        job: its state.
        choices: option of each configuration group; empty if the run does not tell.
        config: the whole resolved configuration; empty if the run does not tell.
        journal: its curves.
        validations: metrics by optimizer step; step 0 is the base model.
        tags: where it comes from, as it told its tracker.
        problem: what of it cannot be read, in one line, or "".
    """

    job: JobStatus
    choices: Mapping[str, str]
    config: Mapping[str, Any]
    journal: JournalColumns
    validations: Mapping[int, Metrics]
    tags: Mapping[str, str]
    problem: str = ""

    @cached_property
    def seed(self) -> int | None:
        """Of the run, if it tells."""
        seed = self.config.get("seed")
        return None if seed is None else int(seed)

    @property
    def base(self) -> Metrics | None:
        """The validation of the base model, if there is one."""
        return self.validations.get(0)

    @property
    def last_step(self) -> int:
        """Optimizer step of the last validation, 0 if only the base model was measured."""
        return max(self.validations, default=0)

    @property
    def hash(self) -> str:
        """Of the configuration, "" if it is not known."""
        return config_hash(self.config) if self.config else ""

    def totals(self, prefix: str, until: int | None = None) -> dict[str, float]:
        """Sums over the journal of the metrics ``train/<prefix><name>``, by name.

        Args:
            prefix: such as ``seconds_``.
            until: last optimizer step that counts; None counts all.
        """
        return self.journal.totals(f"train/{prefix}", until)

    @property
    def peak_memory(self) -> float | None:
        """The largest in the journal, in MiB."""
        _, values = self.journal.series("train/peak_memory_mib")
        return float(values.max()) if len(values) else None


@dataclass(frozen=True)
class SweepResult:
    """The runs of a sweep by number, and what ``sweep.json`` says of its submission."""

    folder: Path
    name: str
    runs: Sequence[RunResult]
    submission: Mapping[str, Any]


def read(folder: Path) -> SweepResult:
    """Read a sweep, or any folder that holds runs.

    Raises:
        ConfigError: it holds none.
    """
    jobs = read_sweep(folder) if folder.is_dir() else []
    if not jobs:
        raise ConfigError(f"{folder}: holds no run and no sweep")
    try:
        submission = json.loads((folder / SWEEP_FILE).read_text())
    except (OSError, ValueError):
        submission = {}
    return SweepResult(
        folder, sweep_name(folder), [_read_run(folder, job) for job in jobs], submission
    )


def _read_run(sweep: Path, job: JobStatus) -> RunResult:
    folder, problems = job.folder, []

    def attempt(what: str, reading: Any, default: Any) -> Any:
        try:
            return reading()
        except Exception as error:  # half written or damaged, in whatever way: the others count
            problems.append(f"{what} cannot be read ({' '.join(str(error).split())})")
            return default

    config = attempt(CONFIG_FILE, lambda: _yaml(folder / CONFIG_FILE), {})
    choices = attempt(CHOICES_FILE, lambda: _yaml(folder / CHOICES_FILE), {})
    journal = attempt(
        JOURNAL_FILE, lambda: JournalColumns.read(folder / JOURNAL_FILE), JournalColumns()
    )
    validations = attempt(RESULTS_FILE, lambda: _results(folder / RESULTS_FILE), {})
    tags = attempt("the tracking record", lambda: _tags(sweep, folder), {})
    choices = choices or job.submitted.choices
    return RunResult(
        job=job,
        choices={group: str(option) for group, option in choices.items() if option is not None},
        config=config or job.submitted.config,
        journal=journal,
        validations=validations or journal.validations(),
        tags=tags,
        problem="; ".join(problems),
    )


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return dict(read_yaml(path))


def _results(path: Path) -> dict[int, Metrics]:
    if not path.is_file():
        return {}
    return {int(step): metrics for step, metrics in json.loads(path.read_text()).items()}


def _tags(sweep: Path, folder: Path) -> dict[str, str]:
    """Of the last start that the run told its tracker of; untracked, of the code it was given."""
    starts = [e for e in JsonLines(outbox_path(folder)).read() if e["kind"] == "start"]
    if starts:
        return dict(starts[-1]["tags"])
    submission = Submission.latest(folder)
    return code_tags(sweep / submission.code) if submission else {}
