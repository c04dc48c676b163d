"""Sample sheets show every picture whole, where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from soc_ft.plotting.sheets import picture_grid, to_image

COLOURS = [(255, 0, 0), (0, 160, 0), (0, 0, 255), (255, 160, 0), (160, 0, 160), (0, 160, 160)]


def plain(colour: tuple[int, int, int], size: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, size, size)).copy()


def area(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, tuple[int, ...]]:
    """How many pixels have the colour, and the box (top, left, bottom, right) around them."""
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(axis=-1))
    return len(rows), (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)


@pytest.mark.parametrize(
    ("size", "shown"), [(64, 128), (50, 150), (128, 128), (200, 200), (512, 256)]
)
def test_pictures_are_shown_whole_at_a_size_one_can_see(size: int, shown: int) -> None:
    """Breaks if a picture is cut, overlapped by a label, blurred when enlarged, or misplaced."""
    rows = [[plain(COLOURS[3 * r + c], size) for c in range(3)] for r in range(2)]
    sheet = picture_grid(rows, ["a red circle on blue " * 20, "b"], ["base", "step 10", "x" * 99])
    boxes = {}
    for number, colour in enumerate(COLOURS):
        pixels, boxes[number] = area(sheet, colour)
        assert pixels == shown * shown
        top, left, bottom, right = boxes[number]
        assert (bottom - top, right - left) == (shown, shown)
    assert boxes[0][1] < boxes[1][1] < boxes[2][1]
    assert boxes[0][0] == boxes[2][0] < boxes[3][0]


def test_enlarging_keeps_pixels(tmp_path: Path) -> None:
    """Breaks if small pictures are smoothed, so that their pixels cannot be judged."""
    picture = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    sheet = np.asarray(picture_grid([[picture]]))
    margin = (sheet.shape[1] - 128) // 2
    shown = sheet[margin : margin + 128 : 2, margin : margin + 128 : 2]
    assert np.array_equal(shown.transpose(2, 0, 1), picture)


def test_tensors_arrays_and_images_are_the_same_picture() -> None:
    """Breaks if a range or an axis order is mistaken for another."""
    integers = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    expected = integers.transpose(1, 2, 0)
    floating = torch.from_numpy(integers).float() / 255
    for picture in (integers, torch.from_numpy(integers), floating, to_image(integers)):
        assert np.array_equal(np.asarray(to_image(picture)), expected)
    beyond = torch.tensor([-0.5, 0.5, 1.5])[:, None, None].expand(3, 2, 2)
    assert to_image(beyond).getpixel((0, 0)) == (0, 128, 255)


def test_the_file_is_a_png_and_nothing_else_stays(tmp_path: Path) -> None:
    """Breaks if a draft stays behind, folders are missing, or rewriting a sheet fails."""
    path = tmp_path / "samples" / "step-000010.png"
    for _ in range(2):
        picture_grid([[plain(COLOURS[0], 64)]], ["prompt"], ["base"], path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_rows_may_differ_in_length() -> None:
    """Breaks if a run of a sweep that has no pictures yet makes the sheet fail."""
    sheet = picture_grid([[plain(COLOURS[0], 128)] * 2, [plain(COLOURS[1], 128)], []])
    assert area(sheet, COLOURS[0])[0] == 2 * 128 * 128
    assert area(sheet, COLOURS[1])[0] == 128 * 128


def test_what_cannot_be_shown_is_refused() -> None:
    """Breaks if labels shift against their pictures, or a latent is drawn as a picture."""
    with pytest.raises(ValueError, match="no pictures"):
        picture_grid([])
    with pytest.raises(ValueError, match="2 labels for 1"):
        picture_grid([[plain(COLOURS[0], 64)]], ["a", "b"])
    with pytest.raises(ValueError, match=r"\(3, height, width\)"):
        picture_grid([[torch.zeros(4, 8, 8)]])


def test_captions_stand_under_their_pictures() -> None:
    """Breaks if a caption covers a picture, or a row has the captions of another."""
    black = np.zeros((3, 64, 64), dtype=np.uint8)
    plain = np.asarray(picture_grid([[black, black]] * 2))
    told = np.asarray(picture_grid([[black, black]] * 2, captions=[["reward 0.52", ""], ["", ""]]))
    line = (told.shape[0] - plain.shape[0]) // 2
    assert line > 8
    first = told[16 : 16 + 128, 16 : 16 + 128]
    assert (first == 0).all()
    under = told[16 + 128 : 16 + 128 + line]
    assert (under[:, 16 : 16 + 128] < 128).any()
    assert (under[:, 16 + 128 + 6 :] == 255).all()
    with pytest.raises(ValueError, match="caption for each picture"):
        picture_grid([[black, black]], captions=[["one"]])
