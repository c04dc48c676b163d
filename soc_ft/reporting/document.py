"""What a report consists of, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Code:
    """Text to be taken literally: a setting, a command, a path."""

    text: str


@dataclass(frozen=True)
class Badge:
    """A state: ``good``, ``bad`` or ``open``."""

    text: str
    kind: str


@dataclass(frozen=True)
class Link:
    """To a file beside the report."""

    text: str
    file: str


Inline = str | Code | Badge | Link
Text = Sequence[Inline] | Inline
"""A piece of running text; plain strings are shown as they are, markup included."""


@dataclass(frozen=True)
class Heading:
    """Of a section; level 1 is the title of the document."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: Text


@dataclass(frozen=True)
class Bullets:
    """A list without an order."""

    items: Sequence[Text]


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as the header has; numbers begin at column ``numbers_from``."""

    header: Sequence[str]
    rows: Sequence[Sequence[Text]]
    numbers_from: int


@dataclass(frozen=True)
class Picture:
    """A PNG beside the report, and what it shows; ``density`` pixels are one of the page."""

    file: str
    title: str
    caption: str
    density: float = 1.5


@dataclass(frozen=True)
class Listing:
    """Lines of a command or a log, optionally folded behind a summary."""

    lines: Sequence[str]
    summary: Text = ""


@dataclass(frozen=True)
class Notes:
    """Markdown that a person wrote."""

    markdown: str


Block = Heading | Paragraph | Bullets | Table | Picture | Listing | Notes


@dataclass(frozen=True)
class Document:
    """A title and what follows it."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def inlines(text: Text) -> Sequence[Inline]:
    """The pieces of a text."""
    return [text] if isinstance(text, Inline) else text


def plain(text: Text) -> str:
    """A text without any markup."""
    return "".join(each if isinstance(each, str) else each.text for each in inlines(text))
