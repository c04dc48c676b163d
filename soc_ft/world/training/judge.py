"""Stage ``judge``: the ground truth of generated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from soc_ft.errors import RunError
from soc_ft.world import defects, scenes, web
from soc_ft.world.judge import ShapesJudge
from soc_ft.world.training.loop import LoopConfig, atomic_save, train

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from omegaconf import DictConfig


def train_judge(config: DictConfig, output_dir: Path) -> None:
    """Train on pictures of the web and reconstructions of them, write ``output_dir/judge``."""
    from diffusers import AutoencoderKL

    if not (output_dir / "vae").exists():
        raise RunError(f"no autoencoder in {output_dir / 'vae'}: run stage=vae first")
    vae = AutoencoderKL.from_pretrained(output_dir / "vae").eval().requires_grad_(False)
    stage = config.judge
    redrawn = _reconstructions(config, vae, output_dir / "reconstructions.pt")
    torch.manual_seed(config.seed)
    judge = ShapesJudge(list(stage.channels), stage.hidden, scenes.RESOLUTION)

    def step_loss(step: int) -> tuple[Tensor, dict[str, float]]:
        drawn = web.sample(config.web, stage.batch_size - stage.redrawn, (config.seed, 8, step))
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        rows = torch.randint(len(redrawn["images"]), (stage.redrawn,), generator=generator)
        images = torch.cat([redrawn["images"][rows].float() / 255.0, drawn.images])
        truth = torch.cat([redrawn["labels"][rows], _labels(drawn)])
        cost = torch.cat([redrawn["cost"][rows], defects.cost(drawn.severities)])
        logits = judge.logits(images)
        losses = [F.cross_entropy(logits[k], truth[:, i]) for i, k in enumerate(logits)]
        right = [(logits[k].argmax(-1) == truth[:, i]).float() for i, k in enumerate(logits)]
        error = judge.cost(images) - cost
        loss = torch.stack(losses).sum() + F.huber_loss(error, torch.zeros_like(error))
        shown = {
            "all_right": float(torch.stack(right).prod(0).mean()),
            "cost_error": float(error.detach().abs().mean()),
        }
        return loss, shown

    train(judge, step_loss, LoopConfig(**stage.loop), output_dir / "judge.pt")
    judge.save(output_dir / "judge")


@torch.no_grad()
def _reconstructions(config: DictConfig, vae: AutoencoderKL, path: Path) -> dict[str, Tensor]:
    """Pictures of the web as the autoencoder draws them, and the truth; kept in ``path``.

    Whatever is generated went through the autoencoder, which blurs a little and takes noise away.
    """
    if path.exists():
        return torch.load(path, weights_only=True)
    stage, parts = config.judge, []
    for chunk in tqdm(range(stage.reconstructions // stage.encode_batch), desc=path.stem):
        drawn = web.sample(config.web, stage.encode_batch, (config.seed, 17, chunk))
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + chunk)
        latents = vae.encode(2.0 * drawn.images - 1.0).latent_dist.sample(generator)
        images = (vae.decode(latents).sample * 0.5 + 0.5).clamp(0.0, 1.0)
        cost = defects.cost(drawn.severities)
        parts.append(((images * 255.0).round().byte(), _labels(drawn), cost))
    images, labels, costs = (torch.cat(each) for each in zip(*parts, strict=True))
    found = {"images": images, "labels": labels, "cost": costs}
    atomic_save(found, path)
    return found


def _labels(drawn: web.WebPictures) -> Tensor:
    return torch.tensor([scenes.labels(scene) for scene in drawn.scenes])
