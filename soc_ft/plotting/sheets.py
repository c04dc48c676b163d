"""Sample sheets: pictures in rows of one prompt each, to be looked at."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from soc_ft.files import replace_file
from soc_ft.plotting.fonts import FONT_SIZE, readable, text_width, write

SMALLEST_TILE = 128
LARGEST_TILE = 256
GAP = 6
MARGIN = 16
LABEL_WIDTH = 210
TITLE_LINES = 3
INK = (32, 33, 36)

_LONGEST_LABEL = 1000
"""Letters of a label that are looked at: more than the largest tile has room for."""
# Settings such as cfg_mode=trajectories may be cut behind their marks, if they must; scripts that
# write without blanks between any two letters.
_BREAKABLE = re.compile(
    r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
    r"|[^=_./\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]*[=_./]*"
)


def picture_grid(
    rows: Sequence[Sequence[Any]],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    path: Path | None = None,
    captions: Sequence[Sequence[str]] | None = None,
) -> Image.Image:
    """Lay out pictures in a grid, prompts at the left and column titles on top.

    Small pictures are enlarged by a whole factor without smoothing, so that their pixels can be
    judged; large ones are reduced.

    Args:
        rows: pictures, row by row (rows may differ in length): PIL images, or arrays or CPU
            tensors of shape (3, H, W), uint8 or floating in [0, 1].
        row_labels: one a row, wrapped, and cut where the row ends.
        column_labels: one a column.
        path: PNG file to write, atomically.
        captions: one under each picture, of one line.

    Raises:
        ValueError: there are no pictures, labels do not fit them, or an array is no picture.
    """
    tiles = [[_tile(picture) for picture in row] for row in rows]
    columns = max((len(row) for row in tiles), default=0)
    if columns == 0:
        raise ValueError("there are no pictures to show")
    for labels, count in ((row_labels, len(tiles)), (column_labels, columns)):
        if labels is not None and len(labels) != count:
            raise ValueError(f"{len(labels)} labels for {count} rows or columns")
    if captions is not None and [*map(len, captions)] != [*map(len, tiles)]:
        raise ValueError("there must be a caption for each picture")
    width = max(tile.width for row in tiles for tile in row)
    height = max(tile.height for row in tiles for tile in row)
    pitch = height + GAP + (_line_height() if captions is not None else 0)
    left = MARGIN + (LABEL_WIDTH + 2 * GAP if row_labels is not None else 0)
    title_height = TITLE_LINES * _line_height()
    titles = [_wrapped(title, width, title_height, bold=True) for title in column_labels or ()]
    top = MARGIN + max((_line_height() * len(title) + GAP for title in titles), default=0)
    sheet = Image.new(
        "RGB",
        (left + columns * (width + GAP) - GAP + MARGIN, top + len(tiles) * pitch + MARGIN),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        x = left + column * (width + GAP) + width / 2
        _write(draw, x, top - GAP - _line_height() * len(title), title, bold=True, centred=True)
    for number, row in enumerate(tiles):
        y = top + number * pitch
        if row_labels is not None:
            lines = _wrapped(row_labels[number], LABEL_WIDTH, height)
            _write(draw, MARGIN, y + (height - _line_height() * len(lines)) / 2, lines)
        for column, tile in enumerate(row):
            x = left + column * (width + GAP)
            sheet.paste(tile, (x, y))
            if captions is not None:
                caption = _wrapped(captions[number][column], width, _line_height())
                _write(draw, x + tile.width / 2, y + tile.height, caption, centred=True)
    if path is not None:
        _save(sheet, path)
    return sheet


def save_pictures(pictures: Iterable[Any], folder: Path) -> None:
    """Write pictures as ``00.png``, ``01.png``, ... into a folder, each atomically."""
    for number, picture in enumerate(pictures):
        _save(to_image(picture), folder / f"{number:02d}.png")


def _save(image: Image.Image, path: Path) -> None:
    content = io.BytesIO()
    image.save(content, "PNG")
    replace_file(path, content.getvalue())


def to_image(picture: Any) -> Image.Image:
    """A PIL image of an array or CPU tensor (3, H, W), uint8 or floating in [0, 1]."""
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[0] != 3:
        raise ValueError(f"a picture of shape {array.shape}: must be (3, height, width)")
    if array.dtype != np.uint8:
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(array.transpose(1, 2, 0))


def _tile(picture: Any) -> Image.Image:
    image = to_image(picture)
    longest = max(image.size)
    if longest < SMALLEST_TILE:
        factor = -(-SMALLEST_TILE // longest)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((LARGEST_TILE, LARGEST_TILE), Image.Resampling.LANCZOS)
    return image


def _line_height() -> int:
    return round(1.3 * FONT_SIZE)


def _wrapped(text: str, width: float, height: float, bold: bool = False) -> list[str]:
    """Lines no wider than ``width``, as many as ``height`` holds; an ellipsis tells of more."""
    room = max(int(height // _line_height()), 1)
    lines = [""]
    for word in readable(text[:_LONGEST_LABEL]).split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, bold) <= width:
            lines[-1] = longer
            continue
        parts = [word] if text_width(word, bold) <= width else _BREAKABLE.findall(word)
        for number, part in enumerate(filter(None, parts)):
            extended = f"{lines[-1]}{part}"
            if not lines[-1] or (number and text_width(extended, bold) <= width):
                lines[-1] = extended
            else:
                lines.append(part)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"{lines[room - 1]} …"]
    return [_cut(line, width, bold) for line in lines]


def _cut(line: str, width: float, bold: bool) -> str:
    if text_width(line, bold) <= width:
        return line
    places = range(len(line))
    fitting = bisect_right(places, width, key=lambda end: text_width(f"{line[:end]}…", bold))
    return f"{line[: max(fitting - 1, 0)].rstrip()}…"


def _write(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    lines: Sequence[str],
    bold: bool = False,
    centred: bool = False,
) -> None:
    for number, line in enumerate(lines):
        left = x - text_width(line, bold) / 2 if centred else x
        write(draw, left, y + number * _line_height(), line, INK, bold)
