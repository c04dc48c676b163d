"""The buffer's files: what each process writes, reads and leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from soc_ft.core import ReplayBuffer
from soc_ft.errors import ConfigError, RunError
from soc_ft.profiling import peak_memory, reset_peak_memory
from soc_ft.training import shards as module
from soc_ft.training.shards import BufferShards

BATCH, BATCHES = 8, 3


def buffer_of(columns: range, round_: int | None = None, width: int = 2) -> ReplayBuffer:
    """A buffer of some columns, whose samples carry their number over all ranks."""
    buffer = ReplayBuffer(BATCH, BATCHES, 2, 0, columns)
    if round_ is not None:
        numbers = torch.tensor(buffer.numbers(torch.arange(buffer.samples_per_round)))
        samples = numbers.view(-1, 1) * torch.ones(width)
        buffer.fill(round_, {"number": numbers, "samples": samples})
    return buffer


def blocks(ranks: int) -> list[range]:
    width = BATCH // ranks
    return [range(rank * width, (rank + 1) * width) for rank in range(ranks)]


def save_all(
    ranks: int, round_: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[BufferShards], dict[str, Any]]:
    """What several processes write, one after the other, and say of it."""
    said: list[Any] = []

    def gather(value: Any) -> list[Any]:
        assert all(isinstance(each, str) for each in value), "samples were sent"
        said.append(value)
        return said

    monkeypatch.setattr(module, "gather", gather)
    each = [BufferShards(folder) for _ in range(ranks)]
    saved = [
        shards.save(buffer_of(columns, round_))
        for shards, columns in zip(each, blocks(ranks), strict=True)
    ]
    return each, saved[-1]


@pytest.mark.parametrize("before", [1, 2, 4])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_any_number_of_processes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    """Breaks when samples are sent between processes, or come back in another order."""
    _, saved = save_all(before, 5, tmp_path, monkeypatch)
    assert len(saved["files"]) == before
    for columns in blocks(after):
        resumed, expected = buffer_of(columns), buffer_of(columns, 5)
        BufferShards(tmp_path).load(saved, resumed, "cpu")
        assert resumed.is_filled(5)
        rows = torch.arange(expected.samples_per_round)
        for name, tensor in expected.get(rows).items():
            assert torch.equal(resumed.get(rows)[name], tensor)


def test_samples_come_back_to_the_device_that_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when parts that were saved on one device each are joined across devices."""
    _, saved = save_all(2, 0, tmp_path, monkeypatch)
    resumed = buffer_of(range(BATCH))
    BufferShards(tmp_path).load(saved, resumed, "meta")
    assert {each.device.type for each in resumed.get(torch.tensor([0])).values()} == {"meta"}


def test_a_round_is_written_once(tmp_path: Path) -> None:
    """Breaks when every checkpoint of a round writes all samples again, also after a resume."""
    shards, buffer = BufferShards(tmp_path), buffer_of(range(BATCH), 0)
    saved = shards.save(buffer)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns, file.stat().st_ino
    resumed = BufferShards(tmp_path)
    resumed.load(saved, buffer, "cpu")
    for each in (shards, resumed):
        assert each.save(buffer) == saved
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written
    other = shards.save(buffer_of(range(BATCH), 1))
    assert other["files"] != saved["files"]


def test_files_stay_until_no_checkpoint_names_them(tmp_path: Path) -> None:
    """Breaks when a kill between two files leaves a checkpoint without its samples."""
    folder = tmp_path / "buffer"
    shards = BufferShards(folder)
    first = shards.save(buffer_of(range(BATCH), 0))
    (folder / ".left.pt.123").touch()  # by a kill
    second = shards.save(buffer_of(range(BATCH), 1))
    assert {*first["files"], *second["files"]} < {path.name for path in folder.iterdir()}
    shards.prune()
    assert [path.name for path in folder.iterdir()] == second["files"]
    assert shards.save(buffer_of(range(BATCH))) == {"round": None, "files": []}
    shards.prune()
    assert not folder.exists()


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    """Breaks when a run folder that was copied in part ends in a traceback."""
    shards, buffer = BufferShards(tmp_path), buffer_of(range(BATCH), 0)
    saved = shards.save(buffer)
    file = tmp_path / saved["files"][0]
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match=file.name):
        shards.load(saved, buffer, "cpu")
    file.unlink()
    with pytest.raises(ConfigError, match=file.name):
        shards.load(saved, buffer, "cpu")


def test_every_process_stops_if_one_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when the others wait for ever for a process whose disk is full."""
    monkeypatch.setattr(module, "gather", lambda own: [own, ("", "other: cannot be saved")])
    with pytest.raises(RunError, match="other: cannot be saved"):
        BufferShards(tmp_path).save(buffer_of(range(4), 0))
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "gather", lambda own: [own, ("", "")])
    with pytest.raises(RunError, match="cannot be saved"):
        BufferShards(tmp_path / "file").save(buffer_of(range(4), 0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the memory of the process")
def test_memory_of_a_save_and_of_a_load_is_that_of_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks when a process holds the samples of the others, or a second copy of its own."""
    said: list[Any] = []
    monkeypatch.setattr(module, "gather", lambda own: said.append(own) or said)
    share = 48 * 2**20
    for columns in blocks(4):
        buffer = buffer_of(columns, 0, width=share // (4 * BATCHES * 2))
        reset_peak_memory()
        before = peak_memory()
        saved = BufferShards(tmp_path).save(buffer)
        assert peak_memory() - before < share / 2
    reset_peak_memory()
    before = peak_memory()
    BufferShards(tmp_path).load(saved, buffer_of(range(2)), "cpu")
    assert peak_memory() - before < 2.5 * share  # the share, and the part of the file it is from
