"""The replay buffer on disk: every process writes its own samples, beside the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from soc_ft.core import ReplayBuffer
from soc_ft.distributed import gather
from soc_ft.errors import RunError
from soc_ft.models.weights import naming_weights, replacing_weights


class BufferShards:
    """One file a process. The samples of a round do not change, so they are written once a round.

    A checkpoint names its files. The files of the one before it stay until :meth:`prune`, so that
    a run that is killed in between goes on from there.
    """

    def __init__(self, folder: Path) -> None:
        """Write nothing yet.

        Args:
            folder: of these files alone; it is there only while there are any.
        """
        self.folder = folder
        self._round: int | None = None
        self._files: list[str] = []

    def save(self, buffer: ReplayBuffer) -> dict[str, Any]:
        """Write what this process holds, and say which files hold what all of them do.

        All processes call it. No samples are sent between them, and none are copied but those of
        the tensor that is being written.

        Raises:
            RunError: some process cannot write its file.
        """
        state = buffer.state_dict()
        if state["round"] is None:
            self._round, self._files = None, []
        elif state["round"] != self._round:
            self._files = self._write(state)
            self._round = state["round"]
        return {"round": self._round, "files": self._files}

    def _write(self, state: Mapping[str, Any]) -> list[str]:
        start, stop = state["columns"]
        name, failure = f"round-{state['round']:06d}-columns-{start}-{stop}.pt", ""
        try:
            with replacing_weights(self.folder / name) as draft, open(draft, "wb") as file:
                torch.save(state, file)
        except RunError as error:  # the others must not wait for this process
            failure = str(error)
        everyone = gather((name, failure))
        for _, failed in everyone:
            if failed:
                raise RunError(failed)
        return [written for written, _ in everyone]

    def load(
        self, saved: Mapping[str, Any], buffer: ReplayBuffer, device: torch.device | str
    ) -> None:
        """Give a buffer its share of what was saved, by any number of processes.

        Args:
            saved: what :meth:`save` said.
            buffer: to be filled.
            device: where it keeps its samples.

        Raises:
            ConfigError: a file is missing or damaged.
        """
        states = []
        for name in saved["files"]:
            path = self.folder / name
            with naming_weights(path):
                states.append(torch.load(path, "cpu", weights_only=True, mmap=True))
        buffer.load_state_dicts(states, device)
        own = [buffer.columns.start, buffer.columns.stop]
        if own in [state["columns"] for state in states]:  # as many processes as there were
            self._round, self._files = saved["round"], list(saved["files"])

    def prune(self) -> None:
        """Remove the files that the last checkpoint does not name."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.name not in self._files:
                path.unlink()
        with suppress(OSError):  # it is not empty
            self.folder.rmdir()
