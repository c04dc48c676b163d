"""The tables of a report, and the same for the terminal and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from soc_ft.evaluation.folders import BASE, FINE_TUNED
from soc_ft.files import displayed
from soc_ft.reporting.aggregating import (
    NOT_OF_THE_BASE,
    BaseModel,
    Difference,
    Evaluated,
    Interval,
    Summary,
    metric_names,
)
from soc_ft.reporting.budgets import EqualCost
from soc_ft.reporting.document import Badge, Code, Table, Text, plain
from soc_ft.reporting.reading import Metrics, RunResult, SweepResult
from soc_ft.reporting.settings import Setting, differing_values
from soc_ft.sweeps.status import JobState

_GAP = 2


def result_table(summaries: Sequence[Summary], bases: Sequence[BaseModel]) -> Table:
    """A row for each base model and each setting: means with their intervals."""
    names = _names([*bases, *summaries])
    header = ["setting", "steps", "interval over"]
    header += [*map(_spaced, names), "seconds", "evaluations", "queries", "memory (MiB)"]
    rows: list[list[Text]] = [
        [
            base.label,
            "0",
            _over(base.seeds, base.seeds),
            *_cells(base.metrics, names),
            "",
            "",
            "",
            "",
        ]
        for base in bases
    ]
    for summary in summaries:
        setting = summary.setting
        count = len(setting.measured)
        rows.append(
            [
                Code(setting.label),
                str(setting.step) if count else "",
                _over(count, len(setting.seeds)),
                *_cells(summary.metrics, names),
                _number(summary.seconds),
                _number(summary.evaluations),
                _number(summary.queries),
                _number(summary.peak_memory),
            ]
        )
    return _without_empty_columns(Table(header, rows, numbers_from=3))


def difference_table(differences: Sequence[Difference]) -> Table:
    """A row for each setting that is compared with the first."""
    names = _names(differences)
    rows: list[list[Text]] = [
        [Code(d.setting.label), str(d.seeds), *_cells(d.metrics, names)] for d in differences
    ]
    return Table(["setting", "seeds", *map(_spaced, names)], rows, numbers_from=2)


def equal_cost_table(compared: Sequence[EqualCost]) -> Table:
    """A row for each setting: its gain for the cost that the cheapest has in all."""
    header = ["setting", *(f"gain for {each.budget:,.0f} {each.cost}" for each in compared)]
    rows: list[list[Text]] = [
        [Code(label), *(str(each.gains[label]) for each in compared)] for label in compared[0].gains
    ]
    return Table(header, rows, numbers_from=1)


def evaluation_table(evaluated: Sequence[Evaluated]) -> Table:
    """A row for the base model and each setting under each sampling."""
    names = _names(evaluated)
    rows: list[list[Text]] = [
        [
            each.sampling,
            BASE if each.setting is None else Code(each.setting.label),
            "" if each.model in (BASE, FINE_TUNED) else each.model,
            _over(each.seeds, each.seeds),
            *_cells(each.metrics, names),
        ]
        for each in evaluated
    ]
    header = ["sampling", "setting", "instead", "interval over", *map(_spaced, names)]
    return _without_empty_columns(Table(header, rows, numbers_from=4))


def job_table(sweep: SweepResult, settings: Sequence[Setting]) -> Table:
    """A row for each job: its state, and why."""
    label = {id(run): setting.label for setting in settings for run in setting.runs}
    rows: list[list[Text]] = [
        [
            str(run.job.number),
            Code(label[id(run)]),
            "" if run.seed is None else str(run.seed),
            state_badge(run),
            run.job.slurm_id or "",
            reason(run),
            Code(displayed(run.job.folder)),
        ]
        for run in sweep.runs
    ]
    header = ["job", "setting", "seed", "state", "Slurm job", "reason", "folder"]
    return _without_empty_columns(Table(header, rows, len(header)))


def state_badge(run: RunResult) -> Badge:
    """State of a job, with the optimizer steps it has done unless it has finished."""
    job = run.job
    kind = "bad" if failed(run) else "good" if job.state == JobState.FINISHED else "open"
    unfinished = job.steps and job.state not in (JobState.FINISHED, JobState.QUEUED)
    return Badge(f"{job.state} (step {job.step} of {job.steps})" if unfinished else job.state, kind)


def failed(run: RunResult) -> bool:
    """Whether a job came to an end without finishing."""
    return run.job.state not in (JobState.FINISHED, JobState.RUNNING, JobState.QUEUED)


def reason(run: RunResult) -> str:
    """Why a job failed, or what of a run cannot be read; one line, mostly empty."""
    return "; ".join(filter(None, [" ".join(run.job.reason.split()), run.problem]))


def counts(runs: Iterable[RunResult]) -> str:
    """``12 jobs: 10 finished, 1 failed, 1 queued``."""
    states = [run.job.state for run in runs]
    parts = [f"{states.count(state)} {state}" for state in JobState if state in states]
    return f"{len(states)} job{'' if len(states) == 1 else 's'}: {', '.join(parts)}"


def to_terminal(table: Table) -> str:
    """Aligned columns."""
    rows = [table.header, *([plain(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        (" " * _GAP)
        .join(
            cell.rjust(width) if n >= table.numbers_from else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        .rstrip()
        for row in rows
    )


def csv_table(sweep: SweepResult) -> str:
    """A row for each run, in full precision."""
    runs = sweep.runs
    differing = differing_values(runs)
    groups = dict.fromkeys(group for run in runs for group in run.choices if group not in differing)
    rows = []
    for place, run in enumerate(runs):
        row: dict[str, object] = {"number": run.job.number}
        row |= {key: values[place] for key, values in differing.items()}
        row |= {group: run.choices.get(group, "") for group in groups}
        row |= {
            "seed": run.seed,
            "config_hash": run.hash,
            "state": str(run.job.state),
            "reason": reason(run),
            "step": run.last_step if run.validations else None,
            "steps": run.job.steps,
        }
        rows.append(row)
    _add(rows, [_metrics(run) for run in runs])
    _add(rows, [_totals(run, "seconds_") for run in runs])
    _add(rows, [_totals(run, "evaluations_") for run in runs])
    _add(
        rows,
        [{"peak_memory_mib": run.peak_memory, "folder": displayed(run.job.folder)} for run in runs],
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _add(rows: Sequence[dict[str, object]], more: Sequence[Mapping[str, object]]) -> None:
    """Further columns, those that any row has, in the order in which they come up."""
    names = dict.fromkeys(name for each in more for name in each)
    for row, each in zip(rows, more, strict=True):
        row |= {name: each.get(name) for name in names}


def _metrics(run: RunResult) -> dict[str, object]:
    """``base/reward``, ``base/reward_error`` and so on, and ``val/...`` after training."""
    base: Metrics = run.base or {}
    tuned: Metrics = run.validations[run.last_step] if run.last_step else {}
    found: dict[str, object] = {}
    for name in metric_names([base]):
        if name not in NOT_OF_THE_BASE:
            found |= {f"base/{each}": base[each] for each in (name, f"{name}_error")}
    for name in metric_names([tuned]):
        found |= {f"val/{each}": tuned[each] for each in (name, f"{name}_error")}
    return found


def _totals(run: RunResult, prefix: str) -> dict[str, object]:
    sums = run.totals(prefix)
    named: dict[str, object] = {f"{prefix}{name}": value for name, value in sums.items()}
    return named | ({f"{prefix}total": sum(sums.values())} if sums else {})


def _names(summaries: Iterable[Summary | BaseModel | Difference | Evaluated]) -> list[str]:
    """Metrics of any of them."""
    every = dict.fromkeys(name for summary in summaries for name in summary.metrics)
    return metric_names([{key: 0.0 for name in every for key in (name, f"{name}_error")}])


def _cells(metrics: Mapping[str, Interval], names: Sequence[str]) -> list[str]:
    return [str(metrics[name]) if name in metrics else "" for name in names]


def _over(count: int, planned: int) -> str:
    """What an interval is over, and how many of the seeds have come so far."""
    of = f" of {planned}" if count < planned else ""
    seeds = f"{count}{of} seed{'' if planned == 1 else 's'}"
    return f"prompts ({seeds})" if count == 1 else seeds


def _without_empty_columns(table: Table) -> Table:
    kept = [n for n in range(len(table.header)) if any(plain(row[n]) for row in table.rows)]
    return Table(
        [table.header[n] for n in kept],
        [[row[n] for n in kept] for row in table.rows],
        sum(n < table.numbers_from for n in kept),
    )


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
