"""Pictures in files, as an evaluation makes or finds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soc_ft.evaluation.folders import PictureSet

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
