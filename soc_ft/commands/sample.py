"""``python -m soc_ft.sample``: pictures from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from soc_ft.commands.entry import run_command
from soc_ft.errors import ConfigError
from soc_ft.records.runs import open_run


def sample(config: DictConfig) -> None:
    """Sample pictures from the fine-tuned or the base model and save them with an overview."""
    folder, run_config = open_run(config.run)
    prompts = _prompts(config, run_config)
    from torchvision.transforms.functional import to_pil_image

    from soc_ft.evaluation.sampling import sample_pictures
    from soc_ft.plotting.sheets import picture_grid

    pictures = sample_pictures(config, folder, run_config, prompts)
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, of_prompt in enumerate(pictures.unflatten(0, (len(prompts), -1))):
        for number, picture in enumerate(of_prompt):
            to_pil_image(picture).save(output / f"{index:04d}-{number:02d}.png")
        rows.append(list(of_prompt))
    picture_grid(rows, row_labels=prompts, column_labels=None, path=output / "overview.png")
    print(f"{len(pictures)} pictures in {output}, all of them in {output / 'overview.png'}")


def _prompts(config: DictConfig, run_config: DictConfig) -> list[str]:
    from soc_ft.data.prompts import load_prompts

    given: Any = config.prompts
    if isinstance(given, ListConfig):
        if not given:
            raise ConfigError("prompts=[]: give at least one prompt")
        return [str(prompt) for prompt in given]
    if given is None:
        given = run_config.prompts.validation
    return load_prompts(str(given), run_config.prompts.column, limit=config.num_prompts)


def main() -> None:
    """Entry point of the command line."""
    run_command(sample, "sample", "commands")
