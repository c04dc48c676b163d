"""``soc-ft sample``: pictures from a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from omegaconf import DictConfig
from pydantic import BeforeValidator

from soc_ft.checking import check_folder, validated
from soc_ft.commands.entry import run_command
from soc_ft.config.checks import resolved
from soc_ft.config.components import check_trusted, component_class
from soc_ft.config.kinds import FINETUNE, MODEL
from soc_ft.config.machine import check_device
from soc_ft.config.schema import Model, Prompts, Scheduler
from soc_ft.evaluation.plan import GivenPrompts, guidance_of_run
from soc_ft.evaluation.prompts import chosen_prompts
from soc_ft.models.availability import check_available
from soc_ft.options import (
    Component,
    Count,
    CountOrZero,
    Device,
    NonNegative,
    Section,
    Steps,
    listed,
)
from soc_ft.records.runs import find_weights, open_run

if TYPE_CHECKING:
    from torch import Tensor


class SampleSettings(Section):
    """Keys of conf/commands/sample.yaml."""

    run: str
    checkpoint: str
    base: bool
    prompts: GivenPrompts
    num_prompts: Count | None
    samples_per_prompt: Count
    guidance_scale: NonNegative | None
    num_steps: Steps | None
    eta: NonNegative | None
    seed: CountOrZero
    batch_size: Count
    device: Device | None
    output: str
    trust: Annotated[list[str], BeforeValidator(listed)]


def sample(config: DictConfig) -> None:
    """Sample pictures from the fine-tuned or the base model and save them with an overview.

    Raises:
        ConfigError: the run, its checkpoint or the prompts are missing or unfit.
    """
    settings = validated(SampleSettings, resolved(config))
    check_device(settings.device)
    folder, run_config = open_run(settings.run)
    check_folder(settings.output, "output")
    check_trusted(run_config, ["model", "finetune"], settings.trust)
    of_run = validated(Prompts, run_config.get("prompts") or {}, ("prompts",))
    prompts = chosen_prompts(settings.prompts, of_run.column, settings.num_prompts, of_run)
    pictures = pictures_of_run(settings, folder, run_config, prompts)

    from torchvision.transforms.functional import to_pil_image

    from soc_ft.plotting.sheets import picture_grid

    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, of_prompt in enumerate(pictures.unflatten(0, (len(prompts), -1))):
        for number, picture in enumerate(of_prompt):
            to_pil_image(picture).save(output / f"{index:04d}-{number:02d}.png")
        rows.append(list(of_prompt))
    picture_grid(rows, row_labels=prompts, column_labels=None, path=output / "overview.png")
    print(f"{len(pictures)} pictures in {output}, all of them in {output / 'overview.png'}")


def pictures_of_run(
    settings: SampleSettings, folder: Path, run_config: Mapping[str, Any], prompts: list[str]
) -> Tensor:
    """(P * samples_per_prompt, 3, H, W) uint8 from the run's model and its schedule."""
    scheduler = validated(Scheduler, run_config.get("scheduler") or {}, ("scheduler",))
    where, mode = run_config.get("model") or {}, run_config.get("finetune") or {}
    component_class(validated(Model, where, ("model",)), "model", MODEL)
    component_class(validated(Component, mode, ("finetune",)), "finetune", FINETUNE)
    num_steps = settings.num_steps or scheduler.num_steps
    eta = scheduler.eta if settings.eta is None else settings.eta
    check_available(where, scheduler.noise_levels(), num_steps, eta)
    checkpoint = None if settings.base else find_weights(folder, settings.checkpoint)
    import torch

    from soc_ft.evaluation.sampling import sample_pictures
    from soc_ft.models.loading import build_model
    from soc_ft.models.weights import load_weights

    weights = None if checkpoint is None else load_weights(checkpoint)
    model = build_model(where, mode, scheduler.noise_levels())
    if weights is not None:
        model.load_trainable_state(weights)
    model.to(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    process = model.scheduler.control_process(num_steps, eta)
    scale = settings.guidance_scale
    return sample_pictures(
        model,
        process,
        prompts,
        guidance_scale=guidance_of_run(run_config) if scale is None else scale,
        base=settings.base,
        samples_per_prompt=settings.samples_per_prompt,
        seed=settings.seed,
        batch_size=settings.batch_size,
    )


def main() -> None:
    """Entry point of the command line."""
    run_command(sample, "sample", "commands", texts=("prompts",))
