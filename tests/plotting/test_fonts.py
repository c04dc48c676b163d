"""Letters on sample sheets are letters, or a word that there is no font for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw

from soc_ft.plotting import fonts
from soc_ft.plotting.fonts import readable, text_width, write
from soc_ft.plotting.sheets import picture_grid


@pytest.fixture(autouse=True)
def _other_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system without fonts, and nothing remembered of another."""
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [])
    caches = (fonts._elsewhere, fonts._system_fonts, fonts._warn_missing)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


def font_with(letter: str, file: Path) -> str:
    """A font of one letter, a square that fills its em."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "one"])
    builder.setupCharacterMap({ord(letter): "one"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "one": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "one": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "One", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(file)
    return str(file)


def test_letters_that_no_font_has_become_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """Breaks if Chinese prompts are rows of boxes, or the word stands for each letter."""
    assert readable("ein Häuschen, дом → ½") == "ein Häuschen, дом → ½"
    assert readable("一只猫 in\na house") == "[no font for CJK] in a house"
    assert readable("猫cat") == "[no font for CJK] cat"
    assert readable("ねこ") == "[no font for Hiragana]"
    for _ in range(2):
        readable("猫")
    assert [record.args for record in caplog.records] == [("CJK",), ("Hiragana",)]


def test_marks_that_are_not_seen_are_left_out() -> None:
    """Breaks if a joiner, a selector or a control character is drawn as a box."""
    assert readable("a\u200db\ufe0fc\x07") == "abc"


def test_a_font_that_has_the_letter_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if only one font is ever tried, or a file that is none ends the search."""
    (tmp_path / "a.ttf").write_bytes(b"nothing")
    files = [str(tmp_path / "a.ttf"), font_with("猫", tmp_path / "one.ttf")]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: files)
    assert readable("a 猫") == "a 猫"
    assert readable("a 犬") == "a [no font for CJK]"
    assert text_width("猫") == fonts.FONT_SIZE
    assert text_width("a猫") == text_width("a") + fonts.FONT_SIZE
    image = Image.new("RGB", (60, 40))
    write(ImageDraw.Draw(image), 20, 10, "猫", (255, 255, 255))
    rows, columns = np.nonzero(np.asarray(image).any(axis=-1))
    assert (columns.min(), columns.max()) == (20, 20 + fonts.FONT_SIZE - 1)
    assert rows.max() - rows.min() + 1 == fonts.FONT_SIZE
    lines = picture_grid([[np.zeros((3, 128, 128), np.uint8)]], ["猫" * 60], ["猫" * 60])
    assert lines.width < 600


def test_a_long_prompt_is_cut_at_once() -> None:
    """Breaks if the place to cut is looked for letter by letter."""
    began = time.monotonic()
    picture_grid([[np.zeros((3, 128, 128), np.uint8)]], ["w" * 10_000], ["v" * 10_000])
    assert time.monotonic() - began < 2
