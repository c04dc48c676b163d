"""``python -m soc_ft.world.agreement``: does the shipped reward agree with what was drawn?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from soc_ft.world import DIFFUSION, REWARD, drawing

if TYPE_CHECKING:
    from soc_ft.world.scorer import ShapesScorer

GAPS = (0.0, 0.5, 1.0, 2.0)
"""Smallest differences of utility of the pairs that are counted."""


def pairwise_accuracy(scorer: ShapesScorer, ballots: int, seed: int) -> dict[str, float]:
    """Share of held-out pairs of candidates that are ordered as the annotator orders them."""
    import torch
    from diffusers import AutoencoderKL
    from hydra import compose, initialize_config_dir

    from soc_ft.files import conf_dir
    from soc_ft.world.training.preferences import draw_ballot

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("world")
    vae = AutoencoderKL.from_pretrained(DIFFUSION / "vae", dtype=torch.float32)
    gaps, agree = [], []
    for number in range(ballots):
        ballot = draw_ballot(config, (seed, 13, number), vae)
        count = ballot.utilities.shape[1]
        prompts = [prompt for prompt in ballot.prompts for _ in range(count)]
        scores = scorer(ballot.images.flatten(0, 1), prompts).view_as(ballot.utilities)
        first, second = torch.triu_indices(count, count, offset=1)
        preferred = ballot.utilities[:, first] - ballot.utilities[:, second]
        gaps.append(preferred.abs())
        agree.append(preferred * (scores[:, first] - scores[:, second]) > 0)
    gap, right = torch.cat(gaps), torch.cat(agree).float()
    return {
        f"pairs, utility gap over {least:g}": float(right[gap > least].mean()) for least in GAPS
    }


def truth_accuracy(scorer: ShapesScorer, count: int, seed: int) -> dict[str, float]:
    """Share of pictures that beat one with a single wrong attribute, for full captions."""
    import numpy as np
    import torch

    rng = np.random.default_rng((seed, 15))
    shares = {}
    for attribute in drawing.ATTRIBUTES:
        right, wrong, prompts = [], [], []
        for _ in range(count):
            scene = drawing.sample_scene(rng)
            prompts.append(drawing.caption(scene, rng, size_share=1.0, position_share=1.0))
            words = drawing.words_of(scene)
            other = str(rng.choice(drawing.alternatives(words, attribute)))
            right.append(drawing.sample_scene(rng, words))
            wrong.append(drawing.sample_scene(rng, words | {attribute: other}))
        better = scorer(torch.from_numpy(drawing.render(right)), prompts)
        worse = scorer(torch.from_numpy(drawing.render(wrong)), prompts)
        shares[f"right over wrong {attribute}"] = float((better > worse).float().mean())
    return shares


def damage_accuracy(scorer: ShapesScorer, count: int, seed: int) -> dict[str, float]:
    """Share of clean pictures that beat themselves damaged, and of prompts that beat another's."""
    import torch

    from soc_ft.world.training.preferences import DAMAGES

    pictures, prompts, _ = drawing.sample(count, (seed, 14), contrast=(1.0, 1.0))
    images, generator = torch.from_numpy(pictures), torch.Generator().manual_seed(seed)
    clean = scorer(images, prompts)
    shares = {"prompt over another's": (clean > scorer(images, prompts[1:] + prompts[:1]))}
    background = images.flatten(2).median(dim=2).values[..., None, None]
    shares["full over half the contrast"] = clean > scorer(0.5 * (images + background), prompts)
    for name, damage in DAMAGES.items():
        for severity in (0.5, 1.0):
            damaged = damage(images, torch.full((count,), severity), generator)
            shares[f"clean over {name}, severity {severity:g}"] = clean > scorer(damaged, prompts)
    return {name: float(wins.float().mean()) for name, wins in shares.items()}


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(prog="python -m soc_ft.world.agreement", description=__doc__)
    parser.add_argument("--reward", type=Path, default=REWARD)
    parser.add_argument("--ballots", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    import torch

    from soc_ft.world.scorer import ShapesScorer

    torch.set_num_threads(1)
    scorer = ShapesScorer.load(arguments.reward)
    print("| comparison | agreement |\n| --- | --- |")
    for shares in (
        pairwise_accuracy(scorer, arguments.ballots, arguments.seed),
        truth_accuracy(scorer, arguments.pictures, arguments.seed),
        damage_accuracy(scorer, arguments.pictures, arguments.seed),
    ):
        for name, share in shares.items():
            print(f"| {name} | {share:.3f} |")


if __name__ == "__main__":
    main()
