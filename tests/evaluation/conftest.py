"""Evaluations that are only checked, and pictures in files, as one makes or finds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from soc_ft.errors import ConfigError
from soc_ft.evaluation.checks import check_evaluation
from soc_ft.evaluation.folders import PictureSet
from soc_ft.evaluation.plan import Plan
from tests.conftest import TINY, composed, write_weights

BASE_ALONE = ("model={option: shapes, path: 'random:tiny'}", "prompts=[a cat]", "metrics=[shapes]")

Colour = tuple[int, int, int]
MakeSet = Callable[..., PictureSet]


@pytest.fixture
def picture_set(tmp_path: Path) -> MakeSet:
    """A set of one-coloured pictures, given as colours by prompt."""

    def make(
        model: str, colours: dict[str, Sequence[Colour]], size: int = 4, eta: float = 1.0
    ) -> PictureSet:
        folder = tmp_path / f"{model}-{eta:g}"
        folder.mkdir()
        paths = []
        for i, of_prompt in enumerate(colours.values()):
            paths.append([folder / f"{i}-{j}.png" for j in range(len(of_prompt))])
            for path, colour in zip(paths[-1], of_prompt, strict=True):
                array = np.broadcast_to(np.array(colour, np.uint8), (size, size, 3))
                Image.fromarray(array.copy()).save(path)
        block = {"schedule": "memoryless", "eta": eta, "num_steps": 5}
        return PictureSet(block, model, list(colours), paths)

    return make


def planned(*overrides: str) -> Plan:
    """The plan of an evaluation that is not tracked."""
    own = ("tracking=none", "trust=[tests.scorers.Redness]")
    return check_evaluation(composed(*own, *overrides, config="evaluate", folder="commands"))


def assert_refused(overrides: Sequence[str], words: Sequence[str]) -> None:
    """That an evaluation is refused in one line with all of these words."""
    with pytest.raises(ConfigError) as caught:
        planned(*overrides)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def checked_run(folder: Path, *overrides: str) -> Path:
    """Fill a folder with what checking needs of a finished run."""
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "best.safetensors"):
        write_weights(folder / "checkpoints" / name)
    plain = OmegaConf.to_container(composed(*TINY, *overrides), resolve=True)
    OmegaConf.save(OmegaConf.create(plain), folder / "config.yaml")
    return folder
