"""Text in whatever script, as far as there are fonts for it."""

from __future__ import annotations

import itertools
import logging
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

FONT_SIZE = 15

_log = logging.getLogger(__name__)

Run = tuple[str, ImageFont.FreeTypeFont]
"""A part of a text, and the font that has all its letters."""


def readable(text: str) -> str:
    """``text`` with a word in the place of letters that no font here has; white space as blanks."""
    letters = "".join(letter for letter in " ".join(text.split()) if not _is_invisible(letter))
    parts = []
    for script, group in itertools.groupby(letters, key=_missing_script):
        parts.append("".join(group) if script is None else f" [no font for {script}] ")
    return " ".join("".join(parts).split())


def text_width(text: str, bold: bool = False) -> float:
    """Width of a :func:`readable` text in pixels."""
    return sum(font.getlength(part) for part, font in _runs(text, bold))


def write(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    text: str,
    fill: tuple[int, int, int],
    bold: bool = False,
) -> None:
    """Write a :func:`readable` text whose highest letters reach up to ``y``."""
    baseline = y + _usual(bold).getmetrics()[0]
    for part, font in _runs(text, bold):
        draw.text((x, baseline), part, font=font, fill=fill, anchor="ls")
        x += font.getlength(part)


def _runs(text: str, bold: bool) -> Iterator[Run]:
    for font, group in itertools.groupby(text, key=lambda letter: _font_for(letter, bold)):
        yield "".join(group), font


def _font_for(letter: str, bold: bool) -> ImageFont.FreeTypeFont:
    """The usual font, unless it lacks the letter and another has it."""
    if _is_usual(letter):
        return _usual(bold)
    return _elsewhere(letter) or _usual(bold)


def _missing_script(letter: str) -> str | None:
    """The script of a letter that no font has."""
    if _is_usual(letter) or _elsewhere(letter):
        return None
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    script = name if name == "CJK" else name.capitalize()
    _warn_missing(script)
    return script


@cache
def _warn_missing(script: str) -> None:
    _log.warning("no font here has %s letters; install one (such as Noto) to see them", script)


def _is_invisible(letter: str) -> bool:
    """Marks of control and of variants, which fonts draw as boxes if they do not know them."""
    return unicodedata.category(letter) in ("Cc", "Cf") or unicodedata.name(letter, "").startswith(
        "VARIATION SELECTOR"
    )


@cache
def _usual(bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_usual_file(bold)), FONT_SIZE)


def _usual_file(bold: bool = False) -> Path:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name


def _is_usual(letter: str) -> bool:
    return ord(letter) in _letters(_usual_file())


@cache
def _elsewhere(letter: str) -> ImageFont.FreeTypeFont | None:
    """The first of the system's fonts that has a letter."""
    for file in _system_fonts():
        if ord(letter) in _letters(file):
            try:
                return _loaded(file)
            except OSError:  # of pictures in fixed sizes
                continue
    return None


@cache
def _loaded(file: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), FONT_SIZE)


@cache
def _system_fonts() -> list[Path]:
    """Plain ones without serifs first."""
    from matplotlib.font_manager import findSystemFonts

    def rank(file: Path) -> tuple[bool, bool, str]:
        name = file.stem.lower()
        styled = any(style in name for style in ("bold", "italic", "oblique", "mono", "light"))
        return styled, "sans" not in name, str(file)

    return sorted(map(Path, findSystemFonts()), key=rank)


@cache
def _letters(file: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(file)).get_charmap())
    except (OSError, RuntimeError):  # no font that can be read
        return frozenset()
