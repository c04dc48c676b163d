"""A report as Markdown that forges render."""

from __future__ import annotations

import re
from urllib.parse import quote

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

# An underscore inside a word, as in cfg_mode, is no markup.
_SPECIAL = re.compile(r"([\\`*\[\]|~]|^#|(?<![^\W_])_|_(?![^\W_]))")


def to_markdown(document: Document) -> str:
    """The whole file."""
    blocks = [f"# {_escaped(document.title)}", *map(_block, document.blocks)]
    return "\n\n".join(blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {_escaped(block.text)}"
        case Paragraph():
            return _text(block.text)
        case Bullets():
            return "\n".join(f"- {_text(item)}" for item in block.items)
        case Table():
            return _table(block)
        case Picture():
            image = f"![{_escaped(block.title)}]({quote(block.file)})"
            return f"{image}\n\n{_escaped(block.caption)}"
        case Listing():
            return _listing(block)
        case Notes():
            return block.markdown.strip()


def _table(table: Table) -> str:
    rule = ["---:" if n >= table.numbers_from else "---" for n in range(len(table.header))]
    rows = [[_escaped(name) for name in table.header], rule]
    rows += [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(text: Text) -> str:
    return "".join(
        # A table is cut at every bar, in code too, where the backslash is then left out again.
        _code(each.text).replace("|", r"\|") if isinstance(each, Code) else _inline(each)
        for each in inlines(text)
    ).replace("\n", " ")


def _listing(listing: Listing) -> str:
    text = "\n".join(listing.lines)
    fence = "`" * max(3, _longest_run(text) + 1)
    block = f"{fence}text\n{text}\n{fence}"
    if not listing.summary:
        return block
    return f"<details><summary>{_html(listing.summary)}</summary>\n\n{block}\n\n</details>"


def _html(text: Text) -> str:
    """A summary is HTML, in which no Markdown is read."""
    import html

    return "".join(
        f"<code>{html.escape(each.text)}</code>"
        if isinstance(each, Code)
        else html.escape(each if isinstance(each, str) else each.text)
        for each in inlines(text)
    )


def _text(text: Text) -> str:
    return "".join(map(_inline, inlines(text)))


def _inline(inline: Inline) -> str:
    match inline:
        case Code():
            return _code(inline.text)
        case Badge():
            return f"**{_escaped(inline.text)}**" if inline.kind == "bad" else _escaped(inline.text)
        case Link():
            return f"[{_escaped(inline.text)}]({quote(inline.file)})"
        case str():
            return _escaped(inline)


def _code(text: str) -> str:
    if not text.strip():
        return ""
    text = " ".join(text.splitlines())
    ticks = "`" * (_longest_run(text) + 1)
    gap = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{gap}{text}{gap}{ticks}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _escaped(text: str) -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", safe)
