"""Where the package's files lie, and writing files that nobody ever finds half written."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from soc_ft.errors import WriteError

PACKAGE = Path(__file__).resolve().parent
PACKAGE_PREFIX = "package:"

_FULL = (errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)


def conf_dir() -> Path:
    """The configuration tree: inside an installed wheel, or at the top of a clone."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"


def package_path(given: str) -> Path:
    """The file that a key names: ``package:`` in front is inside soc_ft, ``~`` the home folder."""
    if given.startswith(PACKAGE_PREFIX):
        return PACKAGE / given.removeprefix(PACKAGE_PREFIX)
    return Path(os.path.expanduser(given))


def displayed(path: Path) -> str:
    """A path as the person would type it: relative where it lies below the current folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def unreadable(error: BaseException) -> str:
    """Why weights cannot be read, in a few words.

    Without PyTorch's own, which explain how to run the code in a file instead.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := code_in(error):
        return f"it holds more than tensors, {code}, which could run code when it is read"
    return f"it is cut off or damaged, or holds no weights at all; {type(error).__name__}"


def code_in(error: BaseException) -> str:
    """What PyTorch refused to run when it read weights; "" if it failed for another reason."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return found[1] if found and isinstance(error, pickle.UnpicklingError) else ""


def first_words(error: BaseException, limit: int = 160) -> str:
    """The beginning of what a library says of an error, in one line; the rest is advice."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return said if len(said) <= limit else f"{said[:limit]}..."


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft that takes the place of ``path`` once it is on disk, whole; folders are made.

    Raises:
        WriteError: the file cannot be written; what was at ``path`` is still there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        _sync(draft)
        os.replace(draft, path)
        with suppress(OSError):  # not every file system lets a folder be synced
            _sync(path.parent)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({reason(error)})") from error
    finally:
        with suppress(OSError):  # there may be no folder to find it in
            draft.unlink()


def replace_file(path: Path, content: bytes) -> None:
    """Write ``path``, folders included, so that it holds the old or the new content, whole.

    Raises:
        WriteError: it cannot be written.
    """
    with replacing(path) as draft:
        draft.write_bytes(content)


def remove_drafts(folder: Path, name: str = "*") -> None:
    """Remove what a killed process left of the files that it was replacing in a folder.

    Only whoever is alone in writing them may do so.

    Args:
        folder: need not be there.
        name: of the files, a pattern.
    """
    for draft in folder.glob(f".{name}.*"):
        if draft.suffix[1:].partition("-")[0].isdigit():  # SQLite adds files of its own
            draft.unlink(missing_ok=True)


def reason(error: BaseException) -> str:
    """Why a file cannot be read or written, in a few words."""
    causes = [error]
    while causes[-1].__cause__ or causes[-1].__context__:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)  # type: ignore[arg-type]
    # Libraries wrap the system's errors in their own, which say less.
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.strerror:
            return "the disk is full" if cause.errno in _FULL else cause.strerror
    return str(error).partition("\n")[0]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def locked(path: Path, wait: bool = True) -> IO[str]:
    """The file at ``path``, created if need be, locked for this process until it is closed.

    Raises:
        BlockingIOError: another process has the lock, and it is not waited for.
    """
    file = open(path, "a")  # noqa: SIM115 (returned)
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    except OSError as error:  # true of some cluster file systems
        _log.debug("%s: cannot be locked (%s)", path, error)
    return file


def is_locked(path: Path) -> bool:
    """Whether some process has the lock of this file."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it is gone, or cannot be locked
        return False
    return False


def publish_file(draft: Path, path: Path) -> bool:
    """Move a complete draft to ``path`` in the same folder, unless there is a file already."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def remove_if_empty(folder: Path) -> None:
    """Remove the output folder that Hydra makes before a task starts; a refused task needs none.

    Nor does it need the folders around it, but outside the current one these are not ours.
    """
    folder, here = folder.resolve(), Path.cwd()
    ours = [each for each in (folder, *folder.parents) if here in each.parents] or [folder]
    for empty in ours:
        if empty == here:  # of a command that has no output folder
            return
        with suppress(OSError):
            empty.rmdir()
