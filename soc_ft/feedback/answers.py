"""Answers on disk: what was asked once is never asked again, whatever happens to the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from soc_ft.models.weights import naming_weights, replacing_weights

Answers = dict[str, Tensor]
"""``index`` (n,) int64 of the pictures within the stage, ``features`` (n, D), ``answer`` (n,) and
``evaluations`` (n,), of the network to sample each picture."""


class AnswerStore:
    """A file of answers for each stage, and one for each part of a stage that is under way.

    Files of another configuration are passed over, and overwritten.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        """Open a store.

        Args:
            folder: of these files alone.
            identity: of the configuration.
        """
        self.folder = folder
        self.identity = identity

    def stage_folder(self, stage: int) -> Path:
        """Where the parts of a stage are; it is there only while the stage is under way."""
        return self.folder / f"stage-{stage + 1}"

    def finished(self, stage: int) -> Answers:
        """All answers of a stage; empty if it is not finished.

        Raises:
            ConfigError: the file is damaged.
        """
        path = self._file(stage)
        return self._read(path) if path.is_file() else {}

    def begun(self, stage: int) -> Answers:
        """What is known of a stage that is under way; empty if nothing is.

        Raises:
            ConfigError: a file is damaged.
        """
        files = sorted(self.stage_folder(stage).glob("[0-9]*.safetensors"))
        parts = [part for part in map(self._read, files) if part]
        names = parts[0] if parts else ()
        return {name: torch.cat([part[name] for part in parts]) for name in names}

    def write_part(self, stage: int, part: Answers) -> None:
        """Keep some answers of a stage.

        Raises:
            WriteError: the file cannot be written.
        """
        name = f"{int(part['index'][0]):06d}.safetensors"
        self._write(self.stage_folder(stage) / name, part)

    def finish(self, stage: int, answers: Answers) -> None:
        """Keep all answers of a stage in one file; one process calls it.

        Raises:
            WriteError: the file cannot be written.
        """
        self._write(self._file(stage), answers)
        shutil.rmtree(self.stage_folder(stage), ignore_errors=True)

    def _file(self, stage: int) -> Path:
        return self.folder / f"stage-{stage + 1}.safetensors"

    def _read(self, path: Path) -> Answers:
        with naming_weights(path), safe_open(path, "pt") as opened:
            if (opened.metadata() or {}).get("configuration") != self.identity:
                return {}
            names = opened.keys()
            return {name: opened.get_tensor(name) for name in names}

    def _write(self, path: Path, answers: Answers) -> None:
        content = save(
            {name: tensor.cpu().contiguous() for name, tensor in answers.items()},
            {"configuration": self.identity},
        )
        with replacing_weights(path) as draft:
            draft.write_bytes(content)
