"""An evaluation from its plan to its table, files and MLflow run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tqdm.contrib.logging import logging_redirect_tqdm

from soc_ft.errors import Interrupted
from soc_ft.evaluation.exact import of_run, optima
from soc_ft.evaluation.exact_tables import ExactResult
from soc_ft.evaluation.folders import PictureSet, write_folder
from soc_ft.evaluation.pictures import picture_sets
from soc_ft.evaluation.plan import Exact, Plan
from soc_ft.evaluation.reference import BaseRewards, law
from soc_ft.evaluation.scoring import Values, estimated, picture_values
from soc_ft.evaluation.statistics import Scores
from soc_ft.evaluation.tables import flat_metrics, terminal_table, write_tables
from soc_ft.files import displayed
from soc_ft.instantiation import build
from soc_ft.layout import BASE_REWARDS_FILE, CONFIG_FILE
from soc_ft.models.devices import usable_device
from soc_ft.records.provenance import flatten, provenance
from soc_ft.tracking.delivery import DeliveryState

PICTURES = "images"


def run_evaluation(plan: Plan, config: DictConfig) -> list[Scores]:
    """Make the pictures, score them, print the table and write the files.

    Args:
        plan: the checked configuration.
        config: the configuration as composed, for the record.

    Raises:
        ConfigError: weights are missing or unfit.
        Interrupted: what was made is kept.
    """
    settings = plan.settings
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = usable_device(settings.device)
    output = Path(settings.output)
    keep = settings.save_images and not plan.sets
    try:
        with logging_redirect_tqdm():
            made = plan.sets or picture_sets(plan, device)
            sets = made if plan.sets else [each.first(settings.samples_per_prompt) for each in made]
            if keep:
                write_folder(output / PICTURES, sets, plan.metadata)
            values = picture_values(
                made, plan.measures, settings.metric_batch, device, plan.metadata
            )
    except (KeyboardInterrupt, Interrupted) as stop:
        raise Interrupted.after(
            stop, "interrupted; the pictures made so far are kept, and the same command goes on"
        ) from None
    results = estimated(sets, plan.measures, values)
    exact = None if plan.exact is None else _beside_optimum(plan, plan.exact, results, values)
    files = write_tables(results, output)
    sheet = _draw(sets, settings.sheet_prompts, output / "samples.png")
    files += [sheet] if sheet else []
    print(f"\n{terminal_table(results)}\n\n{_summary(sets, output, keep)}")
    if exact is not None and plan.exact is not None:
        files += [exact.write(output), _keep_rewards(plan, plan.exact, values, output)]
        print(
            f"\n{exact.text()}\neverything in {displayed(files[-2])}; base rewards, "
            f"for validation.base_rewards: {displayed(files[-1])}"
        )
    _record(plan, config, [*results, *(exact.rows() if exact else [])], output, files)
    return results


def _beside_optimum(
    plan: Plan, exact: Exact, results: Sequence[Scores], values: Values
) -> ExactResult:
    """The optimum from all pictures of the base model, and the run, if one is evaluated."""
    assert plan.source is not None
    of_base = {label: by_set[0] for label, by_set in values.items()}
    run = {}
    if exact.own is not None:
        run = of_run(exact, results[1], of_base[exact.reward], plan.source.run_dir)
    return ExactResult(
        exact,
        results[0].block,
        plan.source.guidance_scale,
        len(plan.prompts),
        optima(exact, of_base, plan.measures),
        run,
    )


def _keep_rewards(plan: Plan, exact: Exact, values: Values, output: Path) -> Path:
    """Write the rewards of the base model's pictures, of which further runs need none."""
    assert plan.source is not None
    (block,) = plan.blocks
    of_law = law(
        plan.source.model,
        block.noise_levels,
        block.num_steps,
        block.eta,
        plan.source.guidance_scale,
        plan.measures[exact.reward].component,
    )
    rewards = torch.from_numpy(np.stack(values[exact.reward][0]))
    path = output / BASE_REWARDS_FILE
    BaseRewards(rewards, plan.prompts, of_law).save(path)
    return path


def _draw(sets: Sequence[PictureSet], prompts: int, path: Path) -> Path | None:
    """The first picture of the first prompts: a row for each prompt, a column for each set."""
    from soc_ft.plotting.sheets import picture_grid

    by_prompt = [dict(zip(each.prompts, each.paths, strict=True)) for each in sets]
    shared = [p for p in sets[0].prompts if all(p in paths for paths in by_prompt)][:prompts]
    if not shared:
        return None
    rows = [[Image.open(paths[prompt][0]) for paths in by_prompt] for prompt in shared]
    picture_grid(rows, shared, [_title(each) for each in sets], path)
    return path


def _title(each: PictureSet) -> str:
    """What a column shows, without what is as a rule the same in all of them."""
    sampling = " {schedule}, eta {eta:g}".format(**each.block) if each.block else ""
    return each.model + sampling


def _record(
    plan: Plan, config: DictConfig, results: Sequence[Scores], output: Path, files: Sequence[Path]
) -> None:
    """Write the configuration, and tell MLflow: a run of its own, below that of the training."""
    from soc_ft.tracking.logger import RunLogger  # a Lightning logger

    plain: Any = OmegaConf.to_container(config, resolve=True)
    OmegaConf.save(OmegaConf.create(plain), output / CONFIG_FILE)
    tags = provenance() | {"soc_ft.kind": "evaluation"}
    tracking, name = dict(plan.tracking), "evaluation"
    if plan.source is not None and plan.source.run_dir is not None:
        trained = DeliveryState.load(plan.source.run_dir).run_id
        tags |= {"mlflow.parentRunId": trained} if trained else {}
        name = f"evaluation of {plan.source.run_dir.name}"
    if "run_name" in tracking:
        tracking["run_name"] = name
    logger = RunLogger(output, build(tracking, "tracking"))
    logger.start(flatten(plain), tags)
    logger.rewind(0)
    logger.log_metrics(flat_metrics(results), step=0)
    for path in (*files, output / CONFIG_FILE):
        logger.log_artifact(path)
    logger.end("success")


def _summary(sets: Sequence[PictureSet], output: Path, kept: bool) -> str:
    prompts, pictures = len(sets[0].prompts), sets[0].count
    lines = [
        f"{prompts} prompts, {pictures} pictures a row; means over prompts ± standard errors; "
        "differences are paired (same prompts, same noise)",
        f"tables and samples: {output}",
    ]
    if kept:
        lines.append(f"pictures: {output / PICTURES} (python -m soc_ft.evaluate images=...)")
    return "\n".join(lines)
