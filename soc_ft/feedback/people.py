"""People as the reward: a folder of pictures with a page to judge them on, and what they said."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from soc_ft.errors import AwaitingAnswers, ConfigError
from soc_ft.feedback.options import People
from soc_ft.files import displayed, replace_file

PAGE, LABELS = "index.html", "labels.json"

_TEMPLATE = Path(__file__).with_name("page.html")
_CHOICES: Mapping[str, tuple[float, float]] = {
    "left": (1.0, -1.0),
    "right": (-1.0, 1.0),
    "equal": (0.0, 0.0),
}
"""What a choice between two pictures is worth to each of them."""


def write_pictures(folder: Path, indices: Sequence[int], pictures: Tensor) -> None:
    """Write pictures (b, 3, H, W) in [0, 1] where the page looks for them.

    Raises:
        WriteError: a file cannot be written.
    """
    for index, picture in zip(indices, pictures.clamp(0, 1).cpu(), strict=True):
        content = io.BytesIO()
        to_pil_image((picture * 255).round().byte()).save(content, "PNG")
        replace_file(folder / _picture(index), content.getvalue())


def answers_of_people(folder: Path, prompts: Sequence[str], stage: int, people: People) -> Tensor:
    """Their answers (n,) about n pictures.

    Marks are 1 to 5. Of two pictures the better one has 1 and the other one -1, both have 0 where
    neither is.

    Args:
        folder: of the stage, with the pictures.
        prompts: n, of the pictures.
        stage: counted from 0.
        people: how they answer.

    Raises:
        AwaitingAnswers: they have not yet; the page is there, and says what to do.
        ConfigError: their file is damaged, incomplete, or of something else.
        WriteError: the page cannot be written.
    """
    page, labels = folder / PAGE, folder / LABELS
    if not labels.is_file():
        replace_file(page, _page(prompts, stage, people).encode())
        raise AwaitingAnswers(
            f"{len(prompts)} pictures wait for people: open {displayed(page)} in a browser, save "
            f"what it gives as {displayed(labels)}, and give the same command again with "
            f"run_dir={displayed(folder.parent.parent)}"
        )
    try:
        said = json.loads(labels.read_text(encoding="utf-8"))
        found = said["answers"]
        meant = (said["stage"], said["kind"]) == (stage + 1, people.kind)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{displayed(labels)}: is not what the page saves ({type(error).__name__}); save it "
            "again"
        ) from None
    if not meant or not isinstance(found, dict):
        raise ConfigError(
            f"{displayed(labels)}: holds no {people.kind} of stage {stage + 1}; save it from "
            f"{displayed(page)}"
        )
    return torch.tensor(_values(found, len(prompts), people, displayed(labels)))


def _values(found: Mapping[str, Any], total: int, people: People, source: str) -> list[float]:
    values: list[float] = []
    asked = total if people.kind == "scores" else total // 2
    for number in range(asked):
        answer = found.get(str(number))
        if people.kind == "scores" and type(answer) is int and 1 <= answer <= 5:
            values.append(float(answer))
        elif people.kind == "pairs" and isinstance(answer, str) and answer in _CHOICES:
            values.extend(_CHOICES[answer])
        else:
            missing = [i for i in range(asked) if found.get(str(i)) is None]
            what = f"answer {number + 1} is {json.dumps(answer)[:40]}"
            if missing:
                first = missing[0] + 1
                what = f"{len(missing)} of {asked} answers are missing, the first is {first}"
            raise ConfigError(f"{source}: {what}; open the page again and complete it")
    return values


def _picture(index: int) -> str:
    return f"pictures/{index:06d}.png"


def _page(prompts: Sequence[str], stage: int, people: People) -> str:
    content = {
        "stage": stage + 1,
        "kind": people.kind,
        "pictures": [
            {"file": _picture(index), "prompt": prompt} for index, prompt in enumerate(prompts)
        ],
    }
    # A prompt must not end the script that it is in.
    data = json.dumps(content).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace('"CONTENT"', data)
