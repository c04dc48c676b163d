"""``python -m soc_ft.world.quality``: what the embedded model draws, by its judge."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soc_ft.world import DIFFUSION, JUDGE, REWARD, scenes

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from torch import Tensor

SCHEDULES: dict[str, dict[str, Any]] = {
    "pretrained": {},
    "fine-tuning": {"beta_start": 0.002, "beta_end": 0.009, "timestep_spacing": "trailing"},
}
COLUMNS = (*scenes.ATTRIBUTES, "all", "quality", "good")


@dataclass(frozen=True)
class Setting:
    """How pictures are sampled: noise schedule, guidance scale, stochasticity."""

    schedule: str
    guidance_scale: float
    eta: float


def sample_images(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    setting: Setting,
    *,
    steps: int,
    seed: int,
    batch_size: int,
) -> Tensor:
    """Draw one picture for each prompt with DDIM.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    import torch
    from diffusers import DDIMScheduler

    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config | SCHEDULES[setting.schedule]
    )
    images = []
    for start in range(0, len(prompts), batch_size):
        output = pipeline(
            prompts[start : start + batch_size],
            num_inference_steps=steps,
            guidance_scale=setting.guidance_scale,
            eta=setting.eta,
            generator=torch.Generator().manual_seed(seed + start),
            output_type="pt",
        )
        images.append(output.images.float())
    return torch.cat(images)


def accuracies(predicted: Tensor, claims: Tensor) -> dict[str, float]:
    """Share of pictures that show what their prompt mentions, by attribute and together.

    Args:
        predicted: (N, 5) class indices.
        claims: (N, 5) class indices, -1 where the prompt leaves the attribute open.
    """
    right, mentioned = predicted == claims, claims >= 0
    shares = {
        name: float(right[:, i][mentioned[:, i]].float().mean())
        for i, name in enumerate(scenes.ATTRIBUTES)
    }
    return shares | {"all": float((right | ~mentioned).all(dim=1).float().mean())}


def best_of(
    scorer: Callable[[Tensor, list[str]], Tensor],
    draw: Callable[[int], Tensor],
    prompts: list[str],
    count: int,
) -> Tensor:
    """The picture of each prompt that the reward scores highest among ``count`` (B, 3, H, W).

    Args:
        scorer: the reward.
        draw: one picture for each prompt, by the number of the draw.
        prompts: the texts.
        count: draws.
    """
    import torch

    best = draw(0)
    highest = scorer(best, prompts)
    for number in range(1, count):
        images = draw(number)
        scores = scorer(images, prompts)
        better = scores > highest
        best = torch.where(better[:, None, None, None], images, best)
        highest = torch.maximum(scores, highest)
    return best


def measure_quality(arguments: argparse.Namespace) -> str:
    """Measure every setting and return a Markdown table; write the sample sheets."""
    import torch
    from diffusers import StableDiffusionPipeline

    from soc_ft.world.defects import GOOD
    from soc_ft.world.judge import ShapesJudge
    from soc_ft.world.scorer import ShapesScorer

    torch.set_num_threads(arguments.threads)
    pipeline = StableDiffusionPipeline.from_pretrained(arguments.pipeline, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    judge = ShapesJudge.load(arguments.judge)
    scorer = ShapesScorer.load(arguments.reward)
    pretrained = pipeline.scheduler
    truth = scenes.prompt_scenes(arguments.prompts, arguments.seed)
    prompts = list(truth)
    claims = torch.tensor([scenes.mentioned_labels(scene, text) for text, scene in truth.items()])
    lines = [
        table_row("schedule", "guidance", "eta", *COLUMNS),
        table_row(*["---"] * (3 + len(COLUMNS))),
    ]
    for setting in _settings(arguments):

        def draw(number: int, setting: Setting = setting) -> Tensor:
            pipeline.scheduler = pretrained
            return sample_images(
                pipeline,
                prompts,
                setting,
                steps=arguments.steps,
                seed=arguments.seed + 1000 * number * len(prompts),
                batch_size=arguments.batch_size,
            )

        images = best_of(scorer, draw, prompts, arguments.best_of)
        shares = accuracies(judge.predict(images), claims)
        drawn = judge.quality(images)
        shares |= {"quality": float(drawn.mean()), "good": float((drawn > GOOD).float().mean())}
        how = setting.schedule, f"{setting.guidance_scale:g}", f"{setting.eta:g}"
        lines.append(table_row(*how, *(f"{shares[name]:.3f}" for name in COLUMNS)))
        print(lines[-1], flush=True)
        if arguments.sheets:
            _write_sheet(images, arguments.sheets, setting)
    return "\n".join(lines) + "\n"


def _settings(arguments: argparse.Namespace) -> Iterator[Setting]:
    for schedule in arguments.schedules:
        for guidance_scale in arguments.guidance:
            for eta in arguments.eta:
                yield Setting(schedule, guidance_scale, eta)


def table_row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _write_sheet(images: Tensor, folder: Path, setting: Setting) -> None:
    from torchvision.utils import save_image

    folder.mkdir(parents=True, exist_ok=True)
    name = f"{setting.schedule}-guidance{setting.guidance_scale:g}-eta{setting.eta:g}.png"
    save_image(images[:64], folder / name, nrow=16, padding=1)


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(prog="python -m soc_ft.world.quality", description=__doc__)
    parser.add_argument("--pipeline", type=Path, default=DIFFUSION)
    parser.add_argument("--judge", type=Path, default=JUDGE)
    parser.add_argument("--reward", type=Path, default=REWARD)
    parser.add_argument("--prompts", type=int, default=512, help="number of prompts")
    parser.add_argument("--steps", type=int, default=50, help="DDIM steps")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 3.0, 5.0, 7.5])
    parser.add_argument("--eta", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=SCHEDULES)
    parser.add_argument(
        "--best-of", type=int, default=1, help="pictures of a prompt that the reward chooses from"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sheets", type=Path, help="folder for sample sheets (PNG)")
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    table = measure_quality(arguments)
    if arguments.output:
        arguments.output.write_text(table)


if __name__ == "__main__":
    main()
