"""``python -m soc_ft.world.agreement``: do reward, judge and autoencoder see what was drawn?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from soc_ft.world import DIFFUSION, JUDGE, REWARD, drawing, scenes

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

    from soc_ft.world.scorer import ShapesScorer

GAPS = (0.0, 0.5, 1.0, 2.0)
"""Smallest differences of utility of the pairs that are counted."""


def pairwise_accuracy(scorer: ShapesScorer, ballots: int, seed: int) -> dict[str, float]:
    """Share of held-out pairs of candidates that are ordered as a typical annotator orders them."""
    import torch
    from diffusers import AutoencoderKL

    from soc_ft.world.training.preferences import draw_ballot

    config = _world_config()
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
    for attribute in scenes.ATTRIBUTES:
        right, wrong, prompts = [], [], []
        for _ in range(count):
            scene = scenes.sample_scene(rng)
            prompts.append(scenes.caption(scene, rng, size_share=1.0, position_share=1.0))
            words = scenes.words_of(scene)
            other = str(rng.choice(scenes.alternatives(words, attribute)))
            right.append(scenes.sample_scene(rng, words))
            wrong.append(scenes.sample_scene(rng, words | {attribute: other}))
        better = scorer(torch.from_numpy(drawing.render(right)), prompts)
        worse = scorer(torch.from_numpy(drawing.render(wrong)), prompts)
        shares[f"right over wrong {attribute}"] = float((better > worse).float().mean())
    return shares


def defect_accuracy(scorer: ShapesScorer, count: int, seed: int) -> dict[str, float]:
    """Share of clean pictures that beat themselves with one defect, and of right prompts."""
    import numpy as np
    import torch

    from soc_ft.world import defects, web

    rng = np.random.default_rng((seed, 14))
    shown = [scenes.sample_scene(rng, {"size": "small", "position": "left"}) for _ in range(count)]
    prompts = [scenes.caption(scene, rng, size_share=1.0, position_share=1.0) for scene in shown]
    images = torch.from_numpy(drawing.render(shown))
    clean = scorer(images, prompts)
    shares = {"prompt over another's": (clean > scorer(images, prompts[1:] + prompts[:1]))}
    for column, name in enumerate(defects.COSTS):
        for severity in (0.5, 1.0):
            severities = torch.zeros(count, len(defects.COSTS))
            severities[:, column] = severity
            spoilt = [defects.spoil_scene(scene, {name: severity}, rng)[0] for scene in shown]
            wins = clean > scorer(web.paint(spoilt, severities, rng), prompts)
            shares[f"clean over {name}, severity {severity:g}"] = wins
    return {name: float(wins.float().mean()) for name, wins in shares.items()}


def embedding_distances(scorer: ShapesScorer, count: int, seed: int) -> dict[str, float]:
    """Half the mean squared distance of embeddings of pictures that differ in one thing alone."""
    import numpy as np
    import torch

    from soc_ft.world import web

    rng = np.random.default_rng((seed, 16))
    settings = _world_config().web
    shown = [scenes.sample_scene(rng) for _ in range(count)]
    words = [scenes.words_of(scene) for scene in shown]
    embedded = scorer.embed_images(torch.from_numpy(drawing.render(shown)))

    def distance(others: Tensor) -> float:
        return float((embedded - scorer.embed_images(others)).square().sum(1).mean() / 2.0)

    same = [scenes.sample_scene(rng, each) for each in words]
    spoilt, severities = zip(*(web.draw_scene(settings, rng, each) for each in words), strict=True)
    damaged = web.paint(list(spoilt), torch.tensor(severities, dtype=torch.float32), rng)
    distances = {
        "the same words drawn again": distance(torch.from_numpy(drawing.render(same))),
        "the same words as the web draws them": distance(damaged),
    }
    for name in scenes.ATTRIBUTES:
        other = [
            scenes.sample_scene(
                rng, each | {name: str(rng.choice(scenes.alternatives(each, name)))}
            )
            for each in words
        ]
        distances[f"another {name}"] = distance(torch.from_numpy(drawing.render(other)))
    return distances


def flawless_scores(scorer: ShapesScorer, count: int, seed: int) -> dict[str, float]:
    """Scores of well drawn pictures that show what their prompts say."""
    import numpy as np
    import torch

    rng = np.random.default_rng((seed, 17))
    shown = [scenes.sample_scene(rng) for _ in range(count)]
    prompts = [scenes.caption(scene, rng) for scene in shown]
    scores = scorer(torch.from_numpy(drawing.render(shown)), prompts)
    return {"mean": float(scores.mean()), "standard deviation": float(scores.std())}


def judged(judge_folder: Path, count: int, seed: int) -> dict[str, float]:
    """How well judge and autoencoder do on pictures of the web that they never saw."""
    import torch
    from diffusers import AutoencoderKL

    from soc_ft.world import defects, web
    from soc_ft.world.judge import ShapesJudge

    vae = AutoencoderKL.from_pretrained(DIFFUSION / "vae", dtype=torch.float32)
    judge = ShapesJudge.load(judge_folder)
    drawn = web.sample(_world_config().web, count, (seed, 18))
    with torch.no_grad():
        again = torch.cat(
            [
                (vae(2.0 * part - 1.0).sample * 0.5 + 0.5).clamp(0.0, 1.0)
                for part in drawn.images.split(64)
            ]
        )
    truth = torch.tensor([scenes.labels(scene) for scene in drawn.scenes])
    quality = defects.quality(drawn.severities)
    flawless = quality == 1.0
    error = (again - drawn.images).square().mean(dim=(1, 2, 3))
    found = {"autoencoder, PSNR (dB)": float((-10.0 * error.log10()).mean())}
    for name, images in (("drawn", drawn.images), ("autoencoded", again)):
        right = (judge.predict(images) == truth).all(dim=1).float()
        both = torch.stack([judge.quality(images), quality])
        found |= {
            f"judge, every attribute right, {name}": float(right.mean()),
            f"judge, every attribute right, {name}, flawless": float(right[flawless].mean()),
            f"judge, quality's correlation, {name}": float(torch.corrcoef(both)[0, 1]),
            f"judge, mean quality, {name}, flawless": float(both[0, flawless].mean()),
        }
    return found


def _world_config() -> DictConfig:
    from hydra import compose, initialize_config_dir

    from soc_ft.files import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("world")


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(prog="python -m soc_ft.world.agreement", description=__doc__)
    parser.add_argument("--reward", type=Path, default=REWARD)
    parser.add_argument("--judge", type=Path, default=JUDGE)
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
        defect_accuracy(scorer, arguments.pictures, arguments.seed),
    ):
        for name, share in shares.items():
            print(f"| {name} | {share:.3f} |")
    count, seed = arguments.pictures, arguments.seed
    tables = {
        "pictures that differ in | distance of embeddings": embedding_distances(
            scorer, count, seed
        ),
        "reward of flawless pictures | ": flawless_scores(scorer, count, seed),
        "on pictures of the web | ": judged(arguments.judge, 4 * count, seed),
    }
    for title, values in tables.items():
        print(f"\n| {title} |\n| --- | --- |")
        for name, value in values.items():
            print(f"| {name} | {value:.3f} |")


if __name__ == "__main__":
    main()
