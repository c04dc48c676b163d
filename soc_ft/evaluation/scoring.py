"""Scores of pictures that lie in files, as estimates over prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from soc_ft.data.metadata import Metadata
from soc_ft.errors import ConfigError
from soc_ft.evaluation.folders import PictureSet, base_of
from soc_ft.evaluation.measuring import compared, measured, of_prompts, tried_measure
from soc_ft.evaluation.plan import Measure
from soc_ft.evaluation.statistics import Scores
from soc_ft.methods.problem import chunks
from soc_ft.models.devices import release_memory

Values = dict[str, list[list[NDArray[np.float64]]]]
"""By metric and set, the (n,) scores or (n, D) vectors of each prompt's n pictures."""


def picture_values(
    sets: Sequence[PictureSet],
    measures: Mapping[str, Measure],
    batch_size: int,
    device: torch.device,
    metadata: Metadata,
) -> Values:
    """Measure everything of every picture; one metric is in memory at a time.

    Args:
        sets: the pictures.
        measures: by label, what they are measured by.
        batch_size: pictures measured together; changes no result.
        device: where.
        metadata: of their prompts, if a measure uses it.

    Raises:
        ConfigError: a metric's weights are missing, a file is no picture, or pictures that are
            scored together differ in size.
    """
    total = sum(each.count for each in sets)
    size = _read(sets[0].paths[0][:1]).shape[-1]
    values = {}
    for label, measure in measures.items():
        metric = tried_measure(label, measure, device, size, sets[0].prompts, metadata)
        with tqdm(total=total, desc=f"Scoring {label}", unit="picture") as bar:
            values[label] = [_of_set(metric, each, batch_size, device, bar) for each in sets]
        del metric
        release_memory()
    return values


def estimated(
    sets: Sequence[PictureSet], measures: Mapping[str, Measure], values: Values
) -> list[Scores]:
    """Estimates over prompts of the first values of each prompt, as many as a set has pictures."""
    all_scores = [Scores(each.block, each.model, each.count) for each in sets]
    for label, measure in measures.items():
        by_set = [
            of_prompts(
                [group[: len(paths)] for group, paths in zip(groups, each.paths, strict=True)],
                measure.embeds,
            )
            for each, groups in zip(sets, values[label], strict=True)
        ]
        for each, scores, own in zip(sets, all_scores, by_set, strict=True):
            base = base_of(each, sets)
            of_base = None if base is None else {label: by_set[sets.index(base)]}
            compared(scores, {label: own}, of_base)
    return all_scores


@torch.no_grad()
def _of_set(
    metric: Any, each: PictureSet, batch_size: int, device: torch.device, bar: tqdm
) -> list[NDArray[np.float64]]:
    paths = [path for of_prompt in each.paths for path in of_prompt]
    prompts = [p for p, of_prompt in zip(each.prompts, each.paths, strict=True) for _ in of_prompt]
    outputs = []
    for part in chunks(len(paths), batch_size):
        images = _read(paths[part]).to(device)
        outputs.append(measured(metric, images, prompts[part]).double().cpu().numpy())
        bar.update(len(images))
    ends = np.cumsum([len(of_prompt) for of_prompt in each.paths])[:-1]
    return np.split(np.concatenate(outputs), ends)


def _read(paths: Sequence[Path]) -> Tensor:
    """(B, 3, H, W) in [0, 1]."""
    arrays = []
    for path in paths:
        try:
            with Image.open(path) as image:
                arrays.append(np.asarray(image.convert("RGB")))
        except OSError as error:
            raise ConfigError(f"{path}: is not a picture that can be read ({error})") from None
        if arrays[-1].shape != arrays[0].shape:
            raise ConfigError(
                f"{path}: is of another size than {paths[0]}; set metric_batch=1 to score "
                "pictures of different sizes"
            )
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255
