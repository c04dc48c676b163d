"""What a run tells the person at the terminal when it starts and when it has finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from soc_ft.config.components import code_beyond_ours
from soc_ft.config.schema import RunConfig
from soc_ft.evaluation.statistics import Scores
from soc_ft.evaluation.tables import terminal_table
from soc_ft.files import displayed
from soc_ft.layout import CURVES_FILE, SAMPLE_FOLDER, sheet_name
from soc_ft.records.journal import (
    EFFICIENCY,
    POSSIBLE_AT_COST,
    POSSIBLE_AT_LEAST,
    POSSIBLE_GAIN,
    POSSIBLE_OBJECTIVE,
)


def introduction(
    run: RunConfig, folder: Path, device: str, threads: int, resumed: Path | None
) -> str:
    """Where a run lies, what it runs on, and how long it is in steps.

    Args:
        run: the typed configuration.
        folder: of the run.
        device: that each process uses.
        threads: CPU threads of each process.
        resumed: the checkpoint that it goes on from, if there is one.
    """
    trainer = run.trainer
    processes = trainer.devices * trainer.num_nodes
    several = f"{processes} x " if processes > 1 else ""
    lines = [
        f"  folder      {displayed(folder)}"
        + (f", goes on from {displayed(resumed)}" if resumed else ""),
        f"  device      {several}{device}, {threads} CPU thread{'s'[: threads > 1]}, "
        f"precision {trainer.precision}",
        f"  steps       {trainer.steps} optimizer steps of {trainer.batch_size} samples with "
        f"{run.scheduler.num_steps} steps each, measured every {run.validation.every}",
    ]
    return "\n".join(lines)


def summarise(
    scores: Sequence[Scores],
    results: Mapping[int, Mapping[str, float]],
    run: RunConfig,
    folder: Path,
    exported: Path | None,
) -> str:
    """The final evaluation, if there is one, what it cost, and where everything is."""
    last = max(results)
    lines = [""]
    if scores:
        count = next(iter(scores[0].estimates.values())).count
        lines += [
            f"Held-out prompts: {count}, pictures: {scores[0].pictures}, "
            f"optimizer steps: {last}, lambda: {run.lambda_:g}",
            "",
            terminal_table(scores),
            "",
            f"  {_costs(results[last])}differences are paired (same prompts, same noise)",
            *_beside_optimum(results[last], run.lambda_),
            "",
        ]
    own = sorted({name for _, name in code_beyond_ours(run.model_dump(by_alias=True))})
    trust = f" trust=[{','.join(own)}]" if own else ""
    lines += [
        f"  pictures    {displayed(folder / SAMPLE_FOLDER / sheet_name(last))}",
        f"  curves      {displayed(folder / CURVES_FILE)}",
        f"  evaluate    python -m soc_ft.evaluate run={displayed(folder)}{trust}",
    ]
    if exported is not None:
        lines.append(f"  model       {displayed(exported)}")
        lines.append(
            f"  sample      python -m soc_ft.sample run={displayed(folder)} prompts='[\"...\"]'"
        )
    return "\n".join(lines)


def _costs(values: Mapping[str, float]) -> str:
    if "control_cost" not in values:
        return ""
    cost, objective = _estimate(values, "control_cost"), _estimate(values, "objective")
    return f"control cost {cost} nats, objective {objective}; "


def _beside_optimum(values: Mapping[str, float], reward_scale: float) -> list[str]:
    """What was possible, as far as it is known."""
    said = []
    if POSSIBLE_GAIN in values:
        possible, objective = (_estimate(values, x) for x in (POSSIBLE_GAIN, POSSIBLE_OBJECTIVE))
        said.append(f"{possible} possible at lambda {reward_scale:g} (objective {objective})")
    elif POSSIBLE_AT_LEAST in values:
        least = _estimate(values, POSSIBLE_AT_LEAST)
        said.append(f"at least {least} possible at lambda {reward_scale:g}")
    if POSSIBLE_AT_COST in values:
        said.append(f"{_estimate(values, POSSIBLE_AT_COST)} possible at this control cost")
    if EFFICIENCY in values:
        said.append(f"efficiency of nats {_estimate(values, EFFICIENCY)}")
    return [f"  gain {_estimate(values, 'gain')}: {'; '.join(said)}"] if said else []


def _estimate(values: Mapping[str, float], name: str) -> str:
    return f"{values[name]:.3f} ± {values[f'{name}_error']:.3f}"
