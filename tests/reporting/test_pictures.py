"""Sample grids compare the same prompts and noise."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from soc_ft.reporting.aggregating import base_models
from soc_ft.reporting.document import Picture
from soc_ft.reporting.pictures import draw_grids
from soc_ft.reporting.reading import read
from soc_ft.reporting.settings import group_by_setting
from tests.reporting.synthetic import configuration, metrics, save_pictures, write_run


def write_shades(folder: Path, shades: dict[tuple[str, int], int]) -> None:
    """A run for each (setting, seed), whose pictures are of one shade; 0 for no pictures."""
    for (setting, seed), shade in shades.items():
        run = write_run(folder / f"{setting}-{seed}", [setting], config=configuration(seed))
        if shade:
            save_pictures(run, shade)


def grids(folder: Path, output: Path) -> list[Picture]:
    return draw_grids(base_models(group_by_setting(read(folder).runs)), output)


def shades_in(path: Path) -> list[int]:
    """Of the tiles of the first row, from left to right; black labels and gaps are left out."""
    with Image.open(path) as image:
        grey = image.convert("L")
    width, height = grey.size
    row = [grey.getpixel((x, height - 40)) for x in range(width)]
    runs = [row[0]]
    for shade in row:
        if shade != runs[-1]:
            runs.append(shade)
    return [shade for shade in runs if shade != 255]


def test_all_columns_show_the_lowest_seed_that_all_settings_have(tmp_path: Path) -> None:
    """Breaks if columns of different seeds, and so of different noise, stand side by side."""
    write_shades(
        tmp_path / "s",
        {("a=1", 0): 10, ("a=1", 1): 50, ("a=2", 1): 100, ("a=2", 2): 150},
    )
    (grid,) = grids(tmp_path / "s", tmp_path)
    assert shades_in(tmp_path / grid.file) == [50, 100]
    assert grid.caption.startswith("Seed 1 after 4 optimizer steps")


def test_settings_without_that_seed_are_named(tmp_path: Path) -> None:
    """Breaks if a setting that is left out of the grid is left out without a word."""
    write_shades(tmp_path / "s", {("a=1", 0): 10, ("a=2", 0): 50, ("a=3", 1): 90, ("a=4", 0): 0})
    (grid,) = grids(tmp_path / "s", tmp_path)
    assert shades_in(tmp_path / grid.file) == [10, 50]
    assert grid.caption.endswith("No pictures with this seed and these prompts: a=3, a=4.")


def test_other_prompts_are_not_put_into_the_same_rows(tmp_path: Path) -> None:
    """Breaks if a row shows pictures of two prompts."""
    write_shades(tmp_path / "s", {("a=1", 0): 10, ("a=2", 0): 0})
    save_pictures(tmp_path / "s/a=2-0", 50, prompts=["a", "c"])
    (grid,) = grids(tmp_path / "s", tmp_path)
    assert shades_in(tmp_path / grid.file) == [10]
    assert "a=2" in grid.caption


def test_pictures_of_the_base_model_alone_are_no_comparison(tmp_path: Path) -> None:
    """Breaks if a sweep that has just begun shows the base model as its result."""
    run = write_run(tmp_path / "s/0", validations={0: metrics(1.0)}, finished=False)
    save_pictures(run, 50)
    assert grids(tmp_path / "s", tmp_path) == []


def test_runs_of_an_older_version_have_no_grid(tmp_path: Path) -> None:
    """Breaks if runs without single pictures stop the report."""
    write_shades(tmp_path / "s", {("a=1", 0): 0})
    assert grids(tmp_path / "s", tmp_path) == []
