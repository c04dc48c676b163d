"""``python -m soc_ft.report FOLDER``: the runs below a folder side by side, as a Markdown table.

With ``--output FOLDER`` the table and a plot of the reward are written there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import OmegaConf

from soc_ft.errors import ConfigError
from soc_ft.evaluation.statistics import Estimate, mean_and_error
from soc_ft.runs import told

OF_A_SETTING = ("gain", "control_cost", "objective")
"""Metrics that say nothing of the base model alone."""


@dataclass(frozen=True)
class FinishedRun:
    """One run of a comparison.

    Attributes:
        settings: the overrides that other runs of the comparison do not share, as typed.
        seed: of the run.
        before, after: first and last validation.
        seconds: spent in optimizer steps.
    """

    settings: tuple[str, ...]
    seed: int
    before: dict[str, float]
    after: dict[str, float]
    seconds: float


def read_runs(folder: Path) -> list[FinishedRun]:
    """The finished runs below ``folder``, in the order of their paths, job 10 after job 9.

    Raises:
        ConfigError: there is none.
    """
    paths = sorted((path.parent for path in folder.rglob("results.json")), key=_numbers_by_value)
    if not paths:
        raise ConfigError(f"{folder}: holds no finished run (a folder with results.json)")
    runs = [_read(path) for path in paths]
    shared = set(runs[0].settings).intersection(*(run.settings for run in runs))
    return [
        replace(run, settings=tuple(each for each in run.settings if each not in shared))
        for run in runs
    ]


def _numbers_by_value(path: Path) -> list[tuple[str, float]]:
    parts = re.findall(r"([^0-9]*)([0-9]+(?:\.[0-9]+)?)?", str(path))
    return [(text, float(number or -1.0)) for text, number in parts]


def _read(path: Path) -> FinishedRun:
    results = {int(step): v for step, v in json.loads((path / "results.json").read_text()).items()}
    config = OmegaConf.load(path / "config.yaml")
    overrides = [str(override) for override in OmegaConf.load(path / "overrides.yaml")]
    settings = tuple(each for each in told(overrides) if not each.startswith("seed="))
    seconds = 0.0
    for line in (path / "metrics.jsonl").read_text().splitlines():
        metrics = json.loads(line)["metrics"]
        seconds += sum(float(v) for name, v in metrics.items() if "seconds_" in name)
    return FinishedRun(
        settings, int(config.seed), results[min(results)], results[max(results)], seconds
    )


def table(runs: list[FinishedRun]) -> str:
    """A row for the base model and one for each setting: means over seeds with standard errors."""
    names = [name for name in runs[0].after if f"{name}_error" in runs[0].after]
    rows = [["", *(name.replace("_", " ") for name in names), "seconds", "seeds"]]
    rows.append(["---"] * len(rows[0]))
    seeds = {run.seed: run for run in runs}
    base = [
        "" if name in OF_A_SETTING else _over_seeds([run.before[name] for run in seeds.values()])
        for name in names
    ]
    rows.append(["base model", *base, "", str(len(seeds))])
    for settings, group in _by_setting(runs).items():
        cells = [_over_seeds([run.after[name] for run in group]) for name in names]
        seconds = _over_seeds([run.seconds for run in group], "{:.0f}")
        rows.append([settings, *cells, seconds, str(len(group))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def plot_reward(runs: list[FinishedRun], path: Path) -> None:
    """Reward of each setting after training, with the base model as a line, as a PNG."""
    from soc_ft.evaluation.plots import plot_bars

    rewards = {
        settings.replace(" ", "\n"): mean_and_error([run.after["reward"] for run in group])
        for settings, group in _by_setting(runs).items()
    }
    base = mean_and_error([run.before["reward"] for run in runs]).mean
    plot_bars(rewards, path, "reward", reference=base)


def _by_setting(runs: list[FinishedRun]) -> dict[str, list[FinishedRun]]:
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(" ".join(run.settings) or "fine-tuned", []).append(run)
    return groups


def _over_seeds(values: list[float], form: str = "{:.3f}") -> str:
    estimate: Estimate = mean_and_error(values)
    mean = form.format(estimate.mean)
    return f"{mean} ± {form.format(estimate.error)}" if len(values) > 1 else mean


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m soc_ft.report",
        description="The runs below a folder side by side, as a Markdown table.",
    )
    parser.add_argument("folder", type=Path, help="folder of a sweep or of several runs")
    parser.add_argument("--output", type=Path, help="folder for table.md and reward.png")
    arguments = parser.parse_args()
    try:
        runs = read_runs(arguments.folder)
    except ConfigError as error:
        sys.exit(f"soc_ft: error: {error}")
    print(table(runs))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "table.md").write_text(table(runs) + "\n")
        plot_reward(runs, arguments.output / "reward.png")


if __name__ == "__main__":
    main()
