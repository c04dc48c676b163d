"""A sweep as its folder tells it: jobs, configurations, journals, validations."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError, SocFtError
from soc_ft.files import first_words
from soc_ft.layout import (
    CHOICES_FILE,
    CONFIG_FILE,
    EVALUATION_FOLDER,
    JOB_FILE,
    JOURNAL_FILE,
    METRICS_FILE,
    RESULTS_FILE,
    SWEEP_FILE,
)
from soc_ft.plain_yaml import read_mapping
from soc_ft.records.identity import config_hash
from soc_ft.records.job import Submission
from soc_ft.records.json_lines import JsonLines, parsed
from soc_ft.records.runs import sweep_name
from soc_ft.records.sweep import code_tags
from soc_ft.reporting.journals import JournalColumns
from soc_ft.sweeps.status import JobStatus, read_sweep
from soc_ft.tracking.outbox import outbox_path

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Sampled:
    """Pictures of one model under one sampling, as ``soc-ft evaluate`` measured them.

    Attributes:
        sampling: schedule, eta and number of steps, in words.
        model: the base model or a fine-tuned one.
        metrics: means and ``<metric>_error``, differences to the base model as
            ``<metric>_difference`` and ``<metric>_difference_error``.
    """

    sampling: str
    model: str
    metrics: Metrics


@dataclass(frozen=True)
class RunResult:
    """One job of a sweep and what it left so far.

    Attributes:
        job: its state.
        choices: option of each configuration group; empty if the run does not tell.
        config: the whole resolved configuration; empty if the run does not tell.
        journal: its curves.
        validations: metrics by optimizer step; step 0 is the base model.
        evaluation: of its model in the folder ``evaluation`` of the run.
        tags: where it comes from, as it told its tracker.
        problem: what of it cannot be read, in one line, or "".
    """

    job: JobStatus
    choices: Mapping[str, str]
    config: Mapping[str, Any]
    journal: JournalColumns
    validations: Mapping[int, Metrics]
    evaluation: Sequence[Sampled]
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
        submission = dict(parsed((folder / SWEEP_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
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
            said = str(error) if isinstance(error, SocFtError) else first_words(error)
            problems.append(f"{what} cannot be read ({said})")
            return default

    # What a job was submitted with is what it ran with; reading YAML twice takes a sweep seconds.
    config = attempt(JOB_FILE, lambda: _checked(job.submitted.config), {})
    if not config and (folder / JOB_FILE).is_file():
        config = attempt(CONFIG_FILE, lambda: _checked(_mapping(folder / CONFIG_FILE)), {})
    choices = job.submitted.choices
    if not choices:
        choices = attempt(CHOICES_FILE, lambda: _mapping(folder / CHOICES_FILE), {})
    journal = attempt(
        JOURNAL_FILE, lambda: JournalColumns.read(folder / JOURNAL_FILE), JournalColumns()
    )
    validations = attempt(RESULTS_FILE, lambda: _results(folder / RESULTS_FILE), {})
    measured = folder / EVALUATION_FOLDER / METRICS_FILE
    evaluation = attempt(measured.name, lambda: _evaluation(measured), [])
    tags = attempt("the tracking record", lambda: _tags(sweep, folder), {})
    return RunResult(
        job=job,
        choices={group: str(option) for group, option in choices.items() if option is not None},
        config=config,
        journal=journal,
        validations=validations or journal.validations(),
        evaluation=evaluation,
        tags=tags,
        problem="; ".join(problems),
    )


def _mapping(path: Path) -> dict[str, Any]:
    return read_mapping(path) if path.is_file() else {}


def _checked(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration of which what the report reads is of the right kind."""
    for key in ("seed", "lambda"):
        if config.get(key) is not None:
            float(config[key])
    for key in ("validation", "prompts"):
        dict(config.get(key) or {})
    return config


def _results(path: Path) -> dict[int, Metrics]:
    if not path.is_file():
        return {}
    return {
        int(step): {name: float(value) for name, value in metrics.items()}
        for step, metrics in parsed(path.read_bytes()).items()
    }


def _evaluation(path: Path) -> list[Sampled]:
    if not path.is_file():
        return []
    found: dict[tuple[str, str], dict[str, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            sampling = f"{row['schedule']}, eta {float(row['eta']):g}, {row['num_steps']} steps"
            metrics = found.setdefault((sampling, row["model"]), {})
            named = {"": row["mean"], "_error": row["error"]}
            named |= {f"_{key}": row[key] for key in ("difference", "difference_error")}
            metrics |= {f"{row['metric']}{end}": float(v) for end, v in named.items() if v}
    return [Sampled(*where, metrics) for where, metrics in found.items()]


def _tags(sweep: Path, folder: Path) -> dict[str, str]:
    """Of the last start that the run told its tracker of; untracked, of the code it was given."""
    starts = [e for e in JsonLines(outbox_path(folder)).read() if e["kind"] == "start"]
    if starts:
        return dict(starts[-1]["tags"])
    submission = Submission.latest(folder)
    return code_tags(sweep / submission.code) if submission else {}
