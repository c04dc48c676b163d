"""What a report says, section by section."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from soc_ft.evaluation.folders import BASE, FINE_TUNED
from soc_ft.files import displayed
from soc_ft.reporting.aggregating import BaseModel, Summary, evaluations, paired_differences
from soc_ft.reporting.budgets import at_equal_cost
from soc_ft.reporting.document import (
    Block,
    Bullets,
    Code,
    Document,
    Heading,
    Inline,
    Link,
    Listing,
    Notes,
    Paragraph,
    Picture,
    Text,
)
from soc_ft.reporting.reading import SweepResult
from soc_ft.reporting.settings import Setting, shared_choices, shared_overrides
from soc_ft.reporting.tables import (
    counts,
    difference_table,
    equal_cost_table,
    evaluation_table,
    failed,
    job_table,
    reason,
    result_table,
    state_badge,
)
from soc_ft.sweeps.status import last_lines

RESULTS_FILE = "results.csv"
NO_RESULT = "No job has been validated after some training yet, so there is no result."

_COMMIT, _DIRTY = "mlflow.source.git.commit", "git.dirty"
_VERSION = re.compile(r"soc_ft\.version|python|version\..*")
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def compose(
    sweep: SweepResult,
    settings: Sequence[Setting],
    summaries: Sequence[Summary],
    bases: Sequence[BaseModel],
    plots: Sequence[Picture],
    grids: Sequence[Picture],
    notes: str,
) -> Document:
    """The whole report.

    Args:
        sweep: what it is of.
        settings: its settings.
        summaries: of the settings, if any of them measured something.
        bases: their base models.
        plots: that were drawn; each gets a heading of its own.
        grids: sheets of samples.
        notes: Markdown of a person, or "".
    """
    blocks: list[Block] = [Notes(notes)] if notes.strip() else []
    blocks.append(Paragraph(f"{counts(sweep.runs)}."))
    if summaries:
        blocks += _result(summaries, bases)
        for picture in plots:
            blocks += [Heading(picture.title), picture]
        if grids:
            blocks += [Heading("Samples"), *grids]
    else:
        blocks.append(Paragraph(NO_RESULT))
    blocks += _evaluations(settings)
    blocks += [Heading("Jobs"), job_table(sweep, settings), *_failures(sweep)]
    blocks += [Heading("How it was run"), *_origin(sweep)]
    return Document(sweep.name, blocks)


def rerun_command(sweep: SweepResult) -> str:
    """What submits the jobs again that failed."""
    return f"python -m soc_ft.report {shlex.quote(displayed(sweep.folder))} --rerun-failed"


def _result(summaries: Sequence[Summary], bases: Sequence[BaseModel]) -> list[Block]:
    blocks: list[Block] = [
        Heading("Result"),
        result_table(summaries, bases),
        Paragraph(
            (
                "Means on held-out prompts with 95 % intervals: over seeds (Student's t) where "
                "there are two or more, else over prompts (1.96 standard errors). The gain is the "
                "paired difference of the reward to the base model, with the same prompts and "
                "noise. Seconds, evaluations of the network (forward and backward) and queries "
                "(pictures that the reward scored) are those of all optimizer steps, means over "
                "seeds; memory is the peak. Every run: ",
                Link(RESULTS_FILE, RESULTS_FILE),
                ".",
            )
        ),
    ]
    differences = paired_differences([summary.setting for summary in summaries])
    if differences:
        blocks += [
            Heading("Differences to the first setting", 3),
            Paragraph(
                (
                    "To ",
                    Code(differences[0].reference.label),
                    ", paired by seed, with 95 % intervals over seeds.",
                )
            ),
            difference_table(differences),
        ]
    compared = at_equal_cost([summary.setting for summary in summaries])
    if compared:
        blocks += [
            Heading("At equal cost", 3),
            equal_cost_table(compared),
            Paragraph(
                "The paired gain when a setting has spent what the cheapest of them spends in "
                "all, interpolated between validations; 95 % intervals over seeds."
            ),
        ]
    return blocks


def _evaluations(settings: Sequence[Setting]) -> list[Block]:
    """What evaluations in the jobs' folders say of other samplings than that of the runs."""
    evaluated = evaluations(settings)
    if not evaluated:
        return []
    guided = any(each.model not in (BASE, FINE_TUNED) for each in evaluated)
    instead = ' "Instead" is the base model guided by the run\'s reward.' if guided else ""
    return [
        Heading("Under other samplings"),
        evaluation_table(evaluated),
        Paragraph(
            (
                "As ",
                Code("python -m soc_ft.evaluate run=<job> output=<job>/evaluation"),
                " measured it for each job: schedule, noise level and number of steps of the "
                "sampler, on the same prompts and noise before and after. A difference is that to "
                f"the base model, paired.{instead} Intervals as above.",
            )
        ),
    ]


def _failures(sweep: SweepResult) -> list[Block]:
    """Log lines of the jobs that failed, and how to run these again."""
    runs = [run for run in sweep.runs if failed(run)]
    if not runs:
        return []
    blocks: list[Block] = [
        Paragraph("To run again what failed, in the same sweep:"),
        Listing([rerun_command(sweep)]),
    ]
    for run in runs:
        lines = [clean(line) for line in last_lines(run.job.log)]
        summary: list[Inline] = [f"Job {run.job.number}, ", state_badge(run).text]
        if reason(run):
            summary.append(f": {reason(run)}")
        if run.job.log is not None and any(lines):
            summary += ["; last lines of ", Code(displayed(run.job.log))]
            blocks.append(Listing(lines, summary))
        else:
            blocks.append(Paragraph([*summary, "; there is no log"]))
    return blocks


def clean(line: str) -> str:
    """A line of a log as it stood on the screen in the end, without control sequences."""
    last = next((part for part in reversed(line.split("\r")) if part.strip()), "")
    return _CONTROL.sub("", _ANSI.sub("", last)).rstrip()


def _origin(sweep: SweepResult) -> list[Block]:
    blocks: list[Block] = []
    command = sweep.submission.get("command")
    if command:
        blocks += [Paragraph("The command:"), Listing([shlex.join(map(str, command))])]
    facts: list[Text] = [("Sweep folder: ", Code(displayed(sweep.folder)))]
    if "launcher" in sweep.submission:
        facts.append(("Launcher: ", Code(str(sweep.submission["launcher"]))))
    if "submitted" in sweep.submission:
        when = datetime.fromtimestamp(float(sweep.submission["submitted"]), UTC)
        facts.append(f"Submitted: {when:%Y-%m-%d %H:%M} UTC")
    overrides = shared_overrides(sweep.runs)
    if overrides:
        facts.append(("Overrides of all jobs: ", Code(shlex.join(overrides))))
    choices = shared_choices(sweep.runs)
    if choices:
        text = " ".join(f"{group}={option}" for group, option in choices.items())
        facts.append(("Options of all jobs: ", Code(text)))
    return [*blocks, Bullets([*facts, *_code(sweep)])]


def _code(sweep: SweepResult) -> list[Text]:
    """Commits and versions that the runs told their trackers; several if they differ."""
    commits: dict[str, None] = {}
    versions: dict[str, dict[str, None]] = {}
    for run in sweep.runs:
        if _COMMIT in run.tags:
            changed = run.tags.get(_DIRTY) == "true"
            name = run.tags[_COMMIT] + (" with uncommitted changes" if changed else "")
            commits[name] = None
        for name, value in run.tags.items():
            if _VERSION.fullmatch(name):
                versions.setdefault(name.removeprefix("version."), {})[value] = None
    facts: list[Text] = [f"Git commit: {', '.join(commits)}"] if commits else []
    if versions:
        named = [
            f"{name.removesuffix('.version')} {' and '.join(values)}"
            for name, values in versions.items()
        ]
        facts.append(f"Versions: {', '.join(named)}")
    return facts
