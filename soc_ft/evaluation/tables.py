"""Results of an evaluation as text, Markdown, CSV and flat metrics."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from soc_ft.evaluation.folders import BASE
from soc_ft.evaluation.statistics import Estimate, Scores
from soc_ft.files import replace_file
from soc_ft.layout import METRICS_FILE

DIFFERENCE = "difference"
GAP = 3

Row = tuple[str, str, dict[str, str]]
"""(block, model or difference, cells by metric)."""


def write_tables(results: Sequence[Scores], folder: Path) -> list[Path]:
    """Write ``metrics.csv`` and ``table.md``, whose paths are returned.

    Raises:
        OSError: a file cannot be written.
    """
    files = {METRICS_FILE: csv_table(results), "table.md": f"{markdown_table(results)}\n"}
    for name, text in files.items():
        replace_file(folder / name, text.encode())
    return [folder / name for name in files]


def terminal_table(results: Sequence[Scores]) -> str:
    """Blocks under their headings; a line for each model and for the difference.

    What a model lacks of the metrics of others stays empty.
    """
    rows = list(_rows(results))
    metrics = list(dict.fromkeys(label for each in results for label in each.estimates))
    first = 2 + max(len(name) for _, name, _ in rows)
    widths = {
        label: GAP + max(len(label), *(len(cells.get(label, "")) for _, _, cells in rows))
        for label in metrics
    }
    header = " " * first + "".join(label.rjust(widths[label]) for label in metrics)
    lines = [header.rstrip()]
    heading = None
    for block, name, cells in rows:
        if block != heading:
            lines += ["", block] if block else [""]
            heading = block
        line = f"  {name}".ljust(first)
        lines.append(line + "".join(cells.get(label, "").rjust(widths[label]) for label in metrics))
    return "\n".join(lines)


def markdown_table(results: Sequence[Scores]) -> str:
    """The same as a table to paste; the sampling stands in a column of its own."""
    metrics = list(results[0].estimates)
    rows = [["sampling", "", *metrics], ["---"] * (2 + len(metrics))]
    rows += [[block, name, *(cells[m] for m in metrics)] for block, name, cells in _rows(results)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def csv_table(results: Sequence[Scores]) -> str:
    """One line for each set of pictures and metric, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("schedule", "eta", "num_steps", "model", "metric", "mean", "error")
    writer.writerow([*columns, "difference", "difference_error", "prompts", "pictures"])
    for scores in results:
        where = [scores.block.get(key, "") for key in ("schedule", "eta", "num_steps")]
        for label, estimate in scores.estimates.items():
            gain = scores.differences.get(label)
            paired = [gain.mean, gain.error] if gain else ["", ""]
            values = [estimate.mean, estimate.error, *paired, estimate.count, scores.pictures]
            writer.writerow([*where, scores.model, label, *values])
    return text.getvalue()


def flat_metrics(results: Sequence[Scores]) -> dict[str, float]:
    """``<sampling>/<model>/<metric>`` with errors and differences, for tracking."""
    flat = {}
    for scores in results:
        where = "/".join(filter(None, [scores.heading, scores.model]))
        named = {f"{where}/{label}": value for label, value in scores.estimates.items()}
        named |= {
            f"{where}/{label}_{DIFFERENCE}": value for label, value in scores.differences.items()
        }
        for name, estimate in named.items():
            flat[name] = estimate.mean
            flat[f"{name}_error"] = estimate.error
    return flat


def shown(estimate: Estimate, signed: bool = False) -> str:
    """Mean and error with as many decimals as two digits of the error take, at least three."""
    sign = "+" if signed else ""
    if math.isnan(estimate.error):
        return f"{estimate.mean:{sign}.3f}"
    decimals = 3
    if estimate.error > 0:
        decimals = max(decimals, 1 - math.floor(math.log10(estimate.error)))
    return f"{estimate.mean:{sign}.{decimals}f} ± {estimate.error:.{decimals}f}"


def _rows(results: Sequence[Scores]) -> Iterator[Row]:
    for scores in results:
        cells = {label: shown(estimate) for label, estimate in scores.estimates.items()}
        yield scores.heading, scores.model, cells
        if scores.differences:
            gains = {label: shown(e, signed=True) for label, e in scores.differences.items()}
            yield scores.heading, f"{DIFFERENCE} to the {BASE}", gains
