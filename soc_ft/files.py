"""Where the package's files lie, and writing files that nobody ever finds half written."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pickle
import re
from pathlib import Path
from typing import IO

PACKAGE = Path(__file__).resolve().parent

_log = logging.getLogger(__name__)


def conf_dir() -> Path:
    """The configuration tree: inside an installed wheel, or at the top of a clone."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"


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
    if isinstance(error, pickle.UnpicklingError):
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            return f"it holds more than tensors, {found[1]}, which could run code when it is read"
    return f"it is cut off or damaged, or holds no weights at all; {type(error).__name__}"


def replace_file(path: Path, content: bytes) -> None:
    """Write ``path``, folders included, so that it holds the old or the new content, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(draft, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


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
    if not path.exists():
        return False
    try:
        locked(path, wait=False).close()
    except BlockingIOError:
        return True
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
        with contextlib.suppress(OSError):
            empty.rmdir()
