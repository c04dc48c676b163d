"""A report as one HTML file that needs no other."""

from __future__ import annotations

import base64
import mimetypes
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from soc_ft.reporting.document import (
    Badge,
    Block,
    Bullets,
    Code,
    Document,
    Heading,
    Inline,
    Link,
    Listing,
    Notes,
    Paragraph,
    Picture,
    Table,
    Text,
    inlines,
)

_STYLE = Path(__file__).parent / "style.css"


def to_html(document: Document, folder: Path) -> str:
    """The whole page.

    Args:
        document: the report.
        folder: with its pictures, which are embedded.
    """
    body = "\n".join(_block(block, folder) for block in document.blocks)
    title = escape(document.title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE.read_text()}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _block(block: Block, folder: Path) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
        case Paragraph():
            return f"<p>{_text(block.text)}</p>"
        case Bullets():
            items = "".join(f"<li>{_text(item)}</li>" for item in block.items)
            return f"<ul>{items}</ul>"
        case Table():
            return _table(block)
        case Picture():
            file, alt = folder / block.file, escape(block.title)
            width = round(_pixels(file) / block.density)
            image = f'<img src="{_data(file)}" width="{width}" alt="{alt}">'
            caption = f"<figcaption>{escape(block.caption)}</figcaption>"
            return f'<figure><div class="wide">{image}</div>{caption}</figure>'
        case Listing():
            listing = f"<pre>{escape(chr(10).join(block.lines))}</pre>"
            if not block.summary:
                return listing
            return f"<details><summary>{_text(block.summary)}</summary>{listing}</details>"
        case Notes():
            return f'<section class="notes">\n{_notes(block.markdown, folder)}</section>'


def _table(table: Table) -> str:
    def row(cells: Any, tag: str) -> str:
        return "".join(
            f'<{tag} class="number">{cell}</{tag}>'
            if place >= table.numbers_from
            else f"<{tag}>{cell}</{tag}>"
            for place, cell in enumerate(cells)
        )

    head = row(map(escape, table.header), "th")
    body = "\n".join(f"<tr>{row(map(_text, cells), 'td')}</tr>" for cells in table.rows)
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _text(text: Text) -> str:
    return "".join(map(_inline, inlines(text)))


def _inline(inline: Inline) -> str:
    match inline:
        case Code():
            return f"<code>{escape(inline.text)}</code>" if inline.text else ""
        case Badge():
            return f'<span class="badge {escape(inline.kind)}">{escape(inline.text)}</span>'
        case Link():
            return f'<a href="{escape(inline.file)}">{escape(inline.text)}</a>'
        case str():
            return escape(inline)


def _pixels(picture: Path) -> int:
    """Its width."""
    from PIL import Image

    with Image.open(picture) as image:
        return int(image.width)


def _data(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _notes(markdown: str, folder: Path) -> str:
    """Markdown without HTML in it; its pictures are embedded, or linked if they lie elsewhere."""
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
        source, text = str(tokens[index].attrGet("src")), escape(tokens[index].content)
        file = folder / unquote(urlsplit(source).path)
        if not urlsplit(source).scheme and not urlsplit(source).netloc and file.is_file():
            return f'<img src="{_data(file)}" alt="{text}">'
        return f'<a href="{escape(source)}">{text or escape(source)}</a>'

    renderer.add_render_rule("image", image)
    return str(renderer.render(markdown))
