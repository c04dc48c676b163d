"""Folders of pictures: what is written is read back, and mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from soc_ft.errors import ConfigError
from soc_ft.evaluation.folders import (
    BASE,
    FINE_TUNED,
    METADATA,
    base_of,
    folder_metadata,
    read_folder,
    write_folder,
)
from tests.evaluation.conftest import MakeSet

RED, BLACK = (255, 0, 0), (0, 0, 0)


def test_what_is_kept_is_read_back(picture_set: MakeSet, tmp_path: Path) -> None:
    """Breaks when prompts, pictures, models or the way of sampling get lost or mixed."""
    colours = {'a "red" thing, ü': [RED, BLACK], "a dark thing": [BLACK, BLACK]}
    sets = [
        picture_set(model, colours, eta=eta) for eta in (0.0, 1.0) for model in (BASE, FINE_TUNED)
    ]
    write_folder(tmp_path / "kept", sets, {})
    found = read_folder(tmp_path / "kept")
    assert [(s.block, s.model, s.prompts) for s in found] == [
        (s.block, s.model, s.prompts) for s in sets
    ]
    pixels = [[Image.open(p).getpixel((0, 0)) for p in row] for row in found[3].paths]
    assert pixels == [list(row) for row in colours.values()]
    assert base_of(found[3], found) is found[2]
    assert base_of(found[2], found) is None


def test_a_folder_of_somebody_else_needs_names_and_prompts_only(tmp_path: Path) -> None:
    """Breaks when pictures that another program made cannot be scored."""
    lines = []
    for name in ("x.png", "y.png", "z.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
        lines.append(json.dumps({"file_name": name, "prompt": "cat" if name < "z" else "dog"}))
    (tmp_path / METADATA).write_text("\n".join(lines) + "\n\n")
    (only,) = read_folder(tmp_path)
    assert only.model == tmp_path.name
    assert only.block == {}
    assert only.prompts == ["cat", "dog"]
    assert [[path.name for path in row] for row in only.paths] == [["x.png", "y.png"], ["z.png"]]


def test_what_is_known_of_prompts_is_kept(picture_set: MakeSet, tmp_path: Path) -> None:
    """Breaks when kept pictures are scored otherwise than before, or a value is no JSON."""
    sets = [picture_set(model, {"a": [RED], "b": [BLACK]}) for model in (BASE, FINE_TUNED)]
    write_folder(tmp_path / "kept", sets, {"a": {"tag": "x", "picture": object()}, "b": {}})
    assert folder_metadata(tmp_path / "kept") == {"a": {"tag": "x"}, "b": {}}
    assert len(read_folder(tmp_path / "kept")) == 2


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"tag": "y"}, r"line 2: has other metadata \(tag\) than .* in .*jsonl, line 1, and"),
        ("tag", r"line 2, key 'metadata': must be an object"),
    ],
)
def test_what_is_said_of_prompts_is_checked_where_it_is_used(
    tmp_path: Path, second: object, message: str
) -> None:
    """Breaks when two lines contradict each other in silence, or bar metrics that do not care."""
    lines = []
    for name, said in (("x.png", {"tag": "x"}), ("y.png", second)):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
        lines.append(json.dumps({"file_name": name, "prompt": "cat", "metadata": said}))
    (tmp_path / METADATA).write_text("\n".join(lines))
    assert read_folder(tmp_path)
    with pytest.raises(ConfigError, match=message):
        folder_metadata(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"there is no .*metadata\.jsonl"),
        ("", "lists no pictures"),
        ("{", r"metadata\.jsonl, line 1, column 2: is not valid JSON"),
        ("\n[1]", r"line 2: must be an object"),
        ('{"file_name": "a.png"}', r"line 1, key 'prompt'"),
        ('{"file_name": 3, "prompt": "a"}', r"line 1, key 'file_name'"),
        ('{"file_name": "a.png", "prompt": "a"}', r"key 'file_name': there is no file .*a\.png"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    """Breaks when the file, the line or the key of a mistake is not said."""
    if text is not None:
        (tmp_path / METADATA).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_folder(tmp_path)
