"""Append-only files of JSON objects, one a line, that a kill at any moment leaves readable."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from soc_ft.errors import RunError, WriteError
from soc_ft.files import reason, replace_file


def parsed(text: bytes) -> Any:
    """A value of JSON, several times faster than ``json.loads``.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return from_json(text)
    except ValueError:  # also of half a surrogate pair, which an argument that is no text becomes
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None


class JsonLines:
    """One writer, any number of readers.

    Every append is handed to the operating system whole, so a killed process loses at most the
    line it was writing. Reading ignores such a torn last line and the next append removes it.
    """

    def __init__(self, path: Path) -> None:
        """Name the file, which the first record creates, with its folders.

        Args:
            path: of the file.
        """
        self.path = path
        self._descriptor: int | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Raises WriteError if the record cannot be written; the file then stays as it was."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            if self._descriptor is None:
                self._descriptor = self._open()
            end = os.fstat(self._descriptor).st_size
            if os.write(self._descriptor, line) < len(line):
                os.ftruncate(self._descriptor, end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise WriteError(f"{self.path}: cannot be appended to ({reason(error)})") from error

    def read(self) -> list[dict[str, Any]]:
        """All complete records; none if there is no file. Raises RunError on a damaged line."""
        tail = JsonLinesTail(self.path)
        try:
            return tail.read()
        finally:
            tail.close()

    def rewrite(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the content atomically."""
        text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        replace_file(self.path, text.encode())
        self.close()

    def close(self) -> None:
        """Give up the file until the next append."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            content = self.path.read_bytes()
            complete = content.rfind(b"\n") + 1
            if complete < len(content):
                os.truncate(self.path, complete)
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


class JsonLinesTail:
    """Reads what was appended since the last call, starting over when the file was replaced."""

    def __init__(self, path: Path) -> None:
        """Start at the top of a file, which need not be there yet.

        Args:
            path: of the file.
        """
        self.path = path
        self.restarts = 0
        self._file: io.BufferedReader | None = None
        self._line = 0

    def read(self) -> list[dict[str, Any]]:
        """The new complete records. ``restarts`` grows when they begin at the top of the file."""
        if self._replaced() and not self._reopen():
            return []
        assert self._file is not None
        start = self._file.tell()
        content = self._file.read()
        complete = content.rfind(b"\n") + 1
        self._file.seek(start + complete)
        records = []
        for line in content[:complete].splitlines():
            self._line += 1
            try:
                records.append(parsed(line))
            except ValueError as error:
                raise RunError(
                    f"{self.path}, line {self._line}: is damaged ({error}); remove the line"
                ) from error
        return records

    def close(self) -> None:
        """Give up the file; the next :meth:`read` starts at its top."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _replaced(self) -> bool:
        if self._file is None:
            return True
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return True

    def _reopen(self) -> bool:
        self.close()
        try:
            self._file = open(self.path, "rb")  # noqa: SIM115 (kept open between calls)
        except FileNotFoundError:
            return False
        self._line = 0
        self.restarts += 1
        return True
