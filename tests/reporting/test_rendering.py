"""Markdown and HTML show what people typed as they typed it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from soc_ft.reporting.document import (
    Badge,
    Block,
    Bullets,
    Code,
    Document,
    Heading,
    Link,
    Listing,
    Notes,
    Paragraph,
    Picture,
    Table,
)
from soc_ft.reporting.html import to_html
from soc_ft.reporting.markdown import to_markdown

NASTY = [
    "prompts='[a|b]'",
    "<script>alert(1)</script>",
    "a & b &amp; c",
    "`tick` ``two``",
    "*bold* _it_ [x](http://x.example) ~~no~~ # no",
    r"back\slash \| bar",
    'quote" onload="x',
]


class Reader(HTMLParser):
    """Collects the text of table cells and code, and every attribute of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self._cell: list[str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.rows[-1].append("".join(self._cell))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)


def as_a_forge(markdown: str) -> str:
    """Rendered by CommonMark with GitHub's tables."""
    return MarkdownIt("commonmark").enable("table").render(markdown)


@pytest.mark.parametrize("text", NASTY)
def test_tables_keep_what_was_typed(text: str, tmp_path: Path) -> None:
    """Breaks if a bar in an override shifts the columns of a Markdown table, or markup in it is
    obeyed, in either format."""
    rows = [[Code(text), text, Badge(text, "bad"), "1.0"]]
    document = Document("t", [Table(["a", "b|b", "c", "d"], rows, numbers_from=3)])
    for page in (as_a_forge(to_markdown(document)), to_html(document, tmp_path)):
        read = Reader(page)
        assert read.rows == [["a", "b|b", "c", "d"], [text, text, text, "1.0"]]
        assert "script" not in read.tags
        assert "onload" not in read.attributes


@pytest.mark.parametrize("text", NASTY)
def test_text_and_listings_keep_what_was_typed(text: str, tmp_path: Path) -> None:
    """Breaks if a log line ends its listing, or a prompt becomes a link or an element."""
    blocks: list[Block] = [
        Heading(text),
        Paragraph([text, Code(text)]),
        Bullets([text]),
        Listing([text, "```", text], ["of ", Code(text)]),
    ]
    document = Document(text, blocks)
    forge, page = as_a_forge(to_markdown(document)), to_html(document, tmp_path)
    for html in (forge, page):
        read = Reader(html)
        assert not {"script", "em", "strong", "s"} & set(read.tags)
        assert "href" not in read.attributes
        assert "onload" not in read.attributes
    assert "details" in Reader(page).tags
    assert len(re.findall("<pre>", forge)) == 1


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    """Breaks if index.html loads a picture, a style or a font from elsewhere."""
    Image.new("RGB", (30, 20)).save(tmp_path / "plot.png")
    notes = "![mine](plot.png) ![theirs](https://x.example/a.png) <img src=https://x.example>"
    blocks = [Picture("plot.png", "A plot", "what it shows"), Notes(notes), Link("csv", "r.csv")]
    page = to_html(Document("t", [*blocks[:2], Paragraph(blocks[2:])]), tmp_path)
    read = Reader(page)
    assert len(read.attributes["src"]) == 2
    assert all(source.startswith("data:image/png;base64,") for source in read.attributes["src"])
    assert read.attributes["width"] == ["20"]
    assert read.attributes["href"] == ["https://x.example/a.png", "r.csv"]
    assert "link" not in read.tags
    assert "url(" not in page
    assert 'name="viewport"' in page


def test_notes_are_rendered_without_html_of_their_own(tmp_path: Path) -> None:
    """Breaks if Markdown of a person is shown as its source, or its HTML gets into the page."""
    notes = (
        "## Mine\n\nTwo *honest* words.\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n<script>x</script>"
    )
    document = Document("t", [Notes(notes)])
    read = Reader(to_html(document, tmp_path))
    assert {"h2", "em", "table"} <= set(read.tags)
    assert "script" not in read.tags
    assert notes in to_markdown(document)


def test_the_log_of_a_failure_is_folded(tmp_path: Path) -> None:
    """Breaks if a forge shows the log's fence as text, because no empty line stands before it."""
    markdown = to_markdown(Document("t", [Listing(["Killed"], "Job 3")]))
    assert "<details><summary>Job 3</summary>\n\n```text\nKilled\n```\n\n</details>" in markdown
