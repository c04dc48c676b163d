"""``soc-ft sample``: pictures from a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from soc_ft.checking import validated
from soc_ft.commands.entry import run_command
from soc_ft.config.checks import resolved
from soc_ft.config.schema import Scheduler
from soc_ft.data.prompts import given_prompts
from soc_ft.records.runs import find_weights, open_run

if TYPE_CHECKING:
    from torch import Tensor


def sample(config: DictConfig) -> None:
    """Sample pictures from the fine-tuned or the base model and save them with an overview.

    Raises:
        ConfigError: the run, its checkpoint or the prompts are missing or unfit.
    """
    folder, run_config = open_run(config.run)
    of_run = resolved(run_config)["prompts"]
    given = resolved(config)["prompts"]
    prompts = given_prompts(
        of_run["validation"] if given is None else given, of_run["column"], config.num_prompts
    )
    pictures = pictures_of_run(config, folder, run_config, prompts)

    from torchvision.transforms.functional import to_pil_image

    from soc_ft.plotting.sheets import picture_grid

    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, of_prompt in enumerate(pictures.unflatten(0, (len(prompts), -1))):
        for number, picture in enumerate(of_prompt):
            to_pil_image(picture).save(output / f"{index:04d}-{number:02d}.png")
        rows.append(list(of_prompt))
    picture_grid(rows, row_labels=prompts, column_labels=None, path=output / "overview.png")
    print(f"{len(pictures)} pictures in {output}, all of them in {output / 'overview.png'}")


def pictures_of_run(
    config: DictConfig, folder: Path, run_config: DictConfig, prompts: list[str]
) -> Tensor:
    """(P * samples_per_prompt, 3, H, W) uint8 from the run's model and its schedule."""
    scheduler = validated(Scheduler, resolved(run_config)["scheduler"], ("scheduler",))
    checkpoint = None if config.base else find_weights(folder, config.checkpoint)
    import torch

    from soc_ft.evaluation.sampling import sample_pictures
    from soc_ft.models.loading import build_model
    from soc_ft.models.weights import load_weights

    weights = None if checkpoint is None else load_weights(checkpoint)
    model = build_model(run_config.model, run_config.finetune, scheduler.noise_levels())
    if weights is not None:
        model.load_trainable_state(weights)
    model.to(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    process = model.scheduler.control_process(
        config.num_steps or scheduler.num_steps,
        scheduler.eta if config.eta is None else config.eta,
    )
    scale = model.guidance_scale if config.guidance_scale is None else config.guidance_scale
    return sample_pictures(
        model,
        process,
        prompts,
        guidance_scale=scale,
        base=config.base,
        samples_per_prompt=config.samples_per_prompt,
        seed=config.seed,
        batch_size=config.batch_size,
    )


def main() -> None:
    """Entry point of the command line."""
    run_command(sample, "sample", "commands")
