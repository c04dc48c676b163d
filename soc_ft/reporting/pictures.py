"""Sample grids: the same prompts and noise for the base model and every setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soc_ft.layout import BASE_PICTURES, LATEST_PICTURES, SAMPLE_FOLDER, SHEET_PROMPTS_FILE
from soc_ft.records.json_lines import parsed
from soc_ft.reporting.aggregating import BaseModel
from soc_ft.reporting.document import Picture
from soc_ft.reporting.reading import RunResult

if TYPE_CHECKING:
    from PIL.Image import Image

_KINDS = (BASE_PICTURES, LATEST_PICTURES)


@dataclass(frozen=True)
class _Column:
    title: str
    pictures: tuple[Image, ...]


def draw_grids(bases: Sequence[BaseModel], folder: Path) -> list[Picture]:
    """Write a grid for each base model whose runs kept their pictures.

    A row is a prompt, and a column a setting; the base model comes first. All columns show the
    same seed, because it decides the noise: the lowest one that most settings have.
    """
    grids: list[Picture] = []
    for base in bases:
        file = f"samples-{len(grids) + 1}.png" if grids else "samples.png"
        caption = _draw_grid(base, folder / file)
        if caption:
            grids.append(Picture(file, "Samples", caption, density=1.0))
    return grids


def _draw_grid(base: BaseModel, path: Path) -> str:
    """The caption, or "" if there is nothing to draw."""
    labels = [setting.label for setting in base.settings]
    runs = [{run.seed: run for run in s.runs if _prompts(run)} for s in base.settings]
    seeds = sorted(
        {seed for by_seed in runs for seed in by_seed},
        key=lambda seed: (-sum(seed in by_seed for by_seed in runs), seed is None, seed),
    )
    if not seeds:
        return ""
    shown = [
        (label, own[seeds[0]]) for label, own in zip(labels, runs, strict=True) if seeds[0] in own
    ]
    prompts = _prompts(shown[0][1])
    shown = [(label, run) for label, run in shown if _prompts(run) == prompts]
    count, steps = len(prompts), {run.last_step for _, run in shown}
    columns = []
    for label, run in list(shown):
        if pictures := _loaded(_files(run, LATEST_PICTURES, count)):
            title = label if len(steps) == 1 else f"{label} step {run.last_step}"
            columns.append(_Column(title, pictures))
        else:
            shown.remove((label, run))
    originals = (_loaded(_files(run, BASE_PICTURES, count)) for _, run in shown)
    original = next(filter(None, originals), ())
    if not original:
        return ""
    _write([_Column(base.label, original), *columns], prompts, path)
    absent = [label for label in labels if label not in [name for name, _ in shown]]
    when = f" after {steps.pop()} optimizer steps" if len(steps) == 1 else ""
    without = (
        f" No pictures with this seed and these prompts: {', '.join(absent)}." if absent else ""
    )
    return (
        f"Seed {seeds[0]}{when}: a row has the same prompt and the same noise, the base model "
        f"comes first.{without}"
    )


def _write(columns: Sequence[_Column], prompts: Sequence[str], path: Path) -> None:
    from soc_ft.plotting.sheets import picture_grid

    picture_grid(
        [[column.pictures[row] for column in columns] for row in range(len(prompts))],
        row_labels=list(prompts),
        column_labels=[column.title for column in columns],
        path=path,
    )


def _prompts(run: RunResult) -> tuple[str, ...]:
    """Of a run that kept all its pictures after some training; empty of any other."""
    samples = run.job.folder / SAMPLE_FOLDER
    try:
        prompts = tuple(map(str, parsed((samples / SHEET_PROMPTS_FILE).read_bytes())))
    except (OSError, ValueError, TypeError):
        return ()
    files = [file for which in _KINDS for file in _files(run, which, len(prompts))]
    return prompts if run.last_step > 0 and all(file.is_file() for file in files) else ()


def _files(run: RunResult, which: str, count: int) -> tuple[Path, ...]:
    folder = run.job.folder / SAMPLE_FOLDER / which
    return tuple(folder / f"{number:02d}.png" for number in range(count))


def _loaded(files: Sequence[Path]) -> tuple[Image, ...]:
    """The pictures; none if one of them is damaged."""
    from PIL import Image

    pictures = []
    for file in files:
        try:
            with Image.open(file) as opened:
                pictures.append(opened.convert("RGB"))
        except Exception:  # PIL's plug-ins raise a dozen unrelated types
            return ()
    return tuple(pictures)
