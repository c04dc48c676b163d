"""What the official packages answered, each asked once."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from soc_ft.rewards.network_reward import NetworkReward
from tests.reference import environment
from tests.rewards.inputs import AWKWARD_PROMPTS, pictures, vocabulary

SIZES = ((512, 512), (300, 480), (640, 400), (256, 256), (96, 64))


class Answer(NamedTuple):
    """Of an official package.

    Attributes:
        folder: with the weights.
        inputs: of ``tests.reference.oracle.Inputs``.
        expected: of ``tests.reference.oracle.Expected``, by reward.
    """

    folder: Path
    inputs: dict[str, list[str] | list[Tensor] | Tensor]
    expected: dict[str, dict[str, Tensor]]


@pytest.fixture(scope="session")
def ask() -> Iterator[Callable[[str], Answer]]:
    """Subject -> answer; weights are of gigabytes and go in the end."""
    with tempfile.TemporaryDirectory() as folder:

        @cache
        def answer(subject: str) -> Answer:
            place = Path(folder) / subject
            place.mkdir()
            return _ask(subject, place)

        yield answer


def _ask(subject: str, folder: Path) -> Answer:
    try:
        environment.build()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the environment of the official packages cannot be built: {error}")
    inputs = {
        "awkward": list(AWKWARD_PROMPTS),
        "images": torch.stack(pictures(((224, 224),) * 2, seed=1)) / 255,
        "prompts": ["a photo of a red circle, very detailed", "naïve café 猫"],
        "pictures": pictures(SIZES, seed=2),
    }
    torch.save(inputs, folder / "inputs.pt")
    (folder / "vocab.txt").write_text(vocabulary(), encoding="utf-8")
    done = subprocess.run(
        [environment.python(), "-m", "tests.reference.oracle", subject, str(folder)],
        cwd=environment.ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = torch.load(folder / "expected.pt", weights_only=True)
    return Answer(folder, inputs, expected)


def differences(reward: NetworkReward, answer: Answer) -> dict[str, float]:
    """How far a reward is from the official one.

    ``score`` is the largest absolute difference; ``gradient`` the L2 norm of the difference
    relative to the gradient's; ``pillow`` the largest difference over pictures that went through
    Pillow, relative to the standard deviation of their official scores. They are printed, too
    (``pytest -rP`` shows them).
    """
    inputs, expected = answer.inputs, answer.expected[reward.name]
    images = inputs["images"].clone().requires_grad_()
    scores = reward(images, inputs["prompts"])
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    found = {
        "score": float((scores.detach() - expected["scores"]).abs().max()),
        "gradient": float((gradient - expected["gradient"]).norm() / expected["gradient"].norm()),
    }
    if len(expected["pillow"]):
        prompt = inputs["prompts"][:1]
        with torch.no_grad():
            ours = [reward(picture[None] / 255, prompt) for picture in inputs["pictures"]]
        spread = expected["pillow"].std()
        found["pillow"] = float((torch.cat(ours) - expected["pillow"]).abs().max() / spread)
    print(reward.name, found)
    return found
