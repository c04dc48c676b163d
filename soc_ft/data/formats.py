"""Files of entries: text, JSON, JSON lines, CSV and TSV, with the line of each entry."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from soc_ft.errors import ConfigError

Located = tuple[str, Any]
"""Where an entry stands ("line 3", "item 0", ...) and the entry, not yet checked."""

_BETWEEN_ITEMS = re.compile(r"[\s,]*")
_LARGEST_FIELD = 2**31 - 1
"""Columns beside the prompt may hold whole pictures; Python's limit is 128 KiB."""


def read_entries(path: Path, source: str) -> Iterator[Located]:
    """Entries of a file whose ending is one of :data:`SUFFIXES`; blank lines are passed over.

    Args:
        path: of the file.
        source: what messages call it.

    Raises:
        ConfigError: the ending is another one, or the file cannot be read, is no UTF-8 text or is
            malformed; names the line.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ConfigError(
            f"{source}: cannot tell the format from the ending {path.suffix!r}; "
            f"use one of {', '.join(SUFFIXES)}"
        )
    yield from read(_text(path, source), source)


def kind_of(value: Any) -> str:
    """What a value of JSON is called in messages."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "nothing" if value is None else kinds.get(type(value), "a number")


def _text(path: Path, source: str) -> str:
    """The content of a file, with every kind of line end as a line feed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read ({error.strerror})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _unix_line_ends(content[: error.start].decode("latin-1")).count("\n") + 1
        raise ConfigError(
            f"{source}, line {line}: is not UTF-8 text; save the file as UTF-8"
        ) from error
    return _unix_line_ends(text)


def _unix_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _plain(text: str, source: str) -> Iterator[Located]:
    for number, line in _lines(text):
        yield f"line {number}", line


def _json(text: str, source: str) -> Iterator[Located]:
    if not text.strip():
        return
    entries = _parsed(text, source, first_line=1)
    if not isinstance(entries, list):
        raise ConfigError(
            f"{source}: holds {kind_of(entries)} where a list of strings or objects is expected, "
            'as in ["a red cup"] or [{"prompt": "a red cup"}]; one object a line is the .jsonl '
            "format"
        )
    lines = _lines_of_items(text)
    for number, entry in enumerate(entries):
        yield f"line {next(lines)}, item {number}", entry


def _lines_of_items(text: str) -> Iterator[int]:
    """The line on which each item of a valid JSON list begins."""
    decoder = json.JSONDecoder()
    line, place = 1, text.index("[") + 1
    line += text.count("\n", 0, place)
    while True:
        start = _BETWEEN_ITEMS.match(text, place).end()  # type: ignore[union-attr]
        line += text.count("\n", place, start)
        yield line
        _, place = decoder.raw_decode(text, start)
        line += text.count("\n", start, place)


def _json_lines(text: str, source: str) -> Iterator[Located]:
    for number, line in _lines(text):
        yield f"line {number}", _parsed(line, source, number)


def _parsed(text: str, source: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise ConfigError(
            f"{source}, line {line}, column {error.colno}: is not valid JSON ({error.msg})"
        ) from error
    except (RecursionError, ValueError) as error:  # nested or numbers without end
        raise ConfigError(f"{source}, line {first_line}: cannot be read ({error})") from error


def _tab_separated(text: str, source: str) -> Iterator[Located]:
    """TSV has no quotation: a quotation mark is a letter like any other."""
    rows = ((number, line.split("\t")) for number, line in _lines(text))
    return _table(rows, source, "take the tab stops out of its values")


def _comma_separated(text: str, source: str) -> Iterator[Located]:
    hint = "put a value that contains ',' in \"quotation marks\""
    return _table(_csv_rows(text, source), source, hint)


def _csv_rows(text: str, source: str) -> Iterator[tuple[int, Sequence[str]]]:
    """Rows that are not blank, with the line that each begins on."""
    csv.field_size_limit(_LARGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ConfigError(f"{source}, line {first}: is not valid CSV ({error})") from error
        if row is None:
            return
        if "".join(row).strip() or len(row) > 1:
            yield first, row


def _table(rows: Iterator[tuple[int, Sequence[str]]], source: str, hint: str) -> Iterator[Located]:
    """Rows below a header; ``hint`` says what to do if one has more values than it has columns."""
    _, header = next(rows, (0, ()))
    for number, row in rows:
        if len(row) > len(header):
            raise ConfigError(
                f"{source}, line {number}: has more values than the header has columns; {hint}"
            )
        missing = [None] * (len(header) - len(row))
        yield f"line {number}", dict(zip(header, [*row, *missing], strict=True))


_READERS: dict[str, Callable[[str, str], Iterator[Located]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
    ".txt": _plain,
}
SUFFIXES = tuple(_READERS)
"""Endings of the files that can be read."""
