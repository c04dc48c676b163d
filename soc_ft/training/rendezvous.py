"""The processes of a job find each other, or it is said who is missing.

PyTorch would wait for half an hour without a word, and deaf to Ctrl-C and other signals, for a
process that was not started or has ended. torchrun ends all of a job with one of them.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed import DistError, TCPStore

from soc_ft.errors import RunError
from soc_ft.processes import is_first_process

_SILENCE = 30.0
"""Seconds until it is said for whom a process waits: some load longer than others."""

_PATIENCE = 30 * 60.0
"""Seconds that a process waits, as long as PyTorch."""

_ANSWER = timedelta(seconds=30)
"""In which rank 0 answers once it is there."""

_STARTER = "SOC_FT_STARTED_BY"
"""Environment variable: the process that started the others of a machine, which end with it."""

_log = logging.getLogger(__name__)


class DataParallel(DDPStrategy):
    """Lightning's, whose processes say for whom they wait and heed signals meanwhile."""

    def __init__(self) -> None:
        """Leave word to the processes that Lightning is going to start."""
        super().__init__()
        if is_first_process():
            os.environ[_STARTER] = str(os.getpid())

    def setup_distributed(self) -> None:
        """Wait for all processes, then let PyTorch connect them.

        Raises:
            RunError: some have not come, or cannot.
        """
        environment = self.cluster_environment
        assert environment is not None
        distributed = torch.distributed
        if distributed.is_initialized() or distributed.is_torchelastic_launched():
            super().setup_distributed()
            return
        where = environment.main_address, environment.main_port
        with meeting(*where, environment.global_rank(), environment.world_size()):
            super().setup_distributed()


@contextmanager
def meeting(host: str, port: int, rank: int, ranks: int) -> Iterator[None]:
    """Wait until all processes of a job have entered; what connects them goes into the block.

    Args:
        host: of rank 0.
        port: that it listens at.
        rank: of this process.
        ranks: how many there are.

    Raises:
        RunError: some have not come in time, or the first, or who started this process, has ended,
            or the first cannot listen.
    """

    def first_is_missing() -> list[int]:
        try:
            socket.create_connection((host, port), timeout=1.0).close()
        except OSError:
            return [0]
        return []

    def missing() -> list[int]:
        return [other for other in range(ranks) if not store.check([f"soc_ft/{other}"])]

    where = f"{host}:{port} (MASTER_ADDR, MASTER_PORT)"
    if rank:
        _wait(first_is_missing, where, ranks, says=True)
    try:
        # PyTorch's own has the same server, which ends with the last of those who use it.
        store = TCPStore(host, port, None, rank == 0, _ANSWER, False, multi_tenant=True)
        store.set(f"soc_ft/{rank}", "")
        _wait(missing, where, ranks, says=rank == 0)
    except DistError as error:
        problem = "rank 0 has ended or is no run" if rank else "rank 0 cannot listen"
        raise RunError(f"{where}: {problem} ({str(error).splitlines()[0]})") from None
    yield


def _wait(missing: Callable[[], Sequence[int]], where: str, ranks: int, says: bool) -> None:
    """Wait until no rank is missing; of all that wait for the same, one says so."""
    began = time.monotonic()
    while absent := missing():
        if _orphaned():
            raise RunError(f"{where}: the process that started this one has ended")
        waited = time.monotonic() - began
        who = f"rank {', '.join(map(str, absent))} of {ranks} processes"
        if waited > _PATIENCE:
            raise RunError(f"{where}: {who} did not come within {_PATIENCE / 60:.0f} minutes")
        if says and waited > _SILENCE:
            _log.warning(
                "Waiting at %s for %s: still loading, ended, or started with another address",
                where,
                who,
            )
            says = False
        time.sleep(0.1)


def _orphaned() -> bool:
    """Whether another process of the run started this one and is gone."""
    starter = os.environ.get(_STARTER)
    return starter is not None and int(starter) not in (os.getpid(), os.getppid())
