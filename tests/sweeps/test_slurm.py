"""The Slurm that other tests rely on: jobs run, and end in the ways that jobs end."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.sweeps import configuration
from tests.sweeps.client import Client
from tests.sweeps.configuration import CPUS
from tests.sweeps.slurm import DAEMONS, Cluster, missing

pytestmark = pytest.mark.services

SLEEP = "while :; do sleep 0.2; done"
"""For ever, in steps so short that bash soon runs its traps."""
GREEDY = """srun python3 -c 'import time
held = [bytearray(2**28)]
time.sleep(60)'"""
"""A job of 256 MiB, whose log then says what Slurm thinks of that."""


def test_output_arrives(slurm: Client, tmp_path: Path) -> None:
    """Breaks if jobs do not run, or not within seconds, or on a node without an address."""
    script = 'echo "step $(srun hostname) of $(getent hosts $SLURM_JOB_NODELIST)"'
    job = slurm.submit(script, tmp_path)
    seconds = slurm.wait_for_state(job, "COMPLETED")
    assert seconds < 10
    words = (tmp_path / f"{job}.log").read_text().split()
    assert words[0] == "step"
    assert words[-1] == "localhost"


def test_jobs_run_beside_each_other(slurm: Client, tmp_path: Path) -> None:
    """Breaks if the node has no more CPUs, memory and GPUs than the machine."""
    jobs = [slurm.submit(SLEEP, tmp_path, "--gres=gpu:1") for _ in range(CPUS + 1)]
    slurm.wait_for(lambda: list(slurm.queue().values()).count("RUNNING") == CPUS)
    assert slurm.state(jobs[-1]) == "PENDING"


def test_requeue(slurm: Client, tmp_path: Path) -> None:
    """Breaks if a requeued job waits for minutes, or its restarts are not counted."""
    job = slurm.submit(f'echo "restart ${{SLURM_RESTART_COUNT:-0}}"; {SLEEP}', tmp_path)
    log = tmp_path / f"{job}.log"
    # RUNNING is said before the script begins: a job requeued between the two leaves no log.
    slurm.wait_for(lambda: log.exists() and "restart 0" in log.read_text())
    for restarts in (1, 2):
        slurm.requeue(job)
        seconds = slurm.wait_for(lambda restart=f"restart {restarts}": restart in log.read_text())
        assert seconds < 20
        assert slurm.show(job)["Restarts"] == str(restarts)
    assert log.read_text().count("DUE TO JOB REQUEUE") == 2


def test_signal(slurm: Client, tmp_path: Path) -> None:
    """Breaks if a signal sent by hand misses the steps, or the script that asked for it."""
    trap = f"trap 'echo caught; exit 0' USR2; echo ready; {SLEEP}"
    script = slurm.submit(trap, tmp_path)
    step = slurm.submit(f'srun bash -c "{trap}"', tmp_path)
    for job, options in ((script, ["--batch"]), (step, [])):
        log = tmp_path / f"{job}.log"
        slurm.wait_for(lambda log=log: log.exists() and "ready" in log.read_text())
        slurm.signal(job, "USR2", *options)
        slurm.wait_for_state(job, "COMPLETED")
        assert "caught" in log.read_text()


def test_array(slurm: Client, tmp_path: Path) -> None:
    """Breaks if tasks that wait are not listed one by one, or one that is cancelled stays known."""
    array = slurm.submit(SLEEP, tmp_path, "--array=0-4%2")
    slurm.wait_for(lambda: list(slurm.queue().values()).count("RUNNING") == 2)
    assert slurm.queue() == {
        f"{array}_{task}": "RUNNING" if task < 2 else "PENDING" for task in range(5)
    }
    slurm.cancel(f"{array}_3")
    assert slurm.state(f"{array}_3") == ""
    assert slurm.state(f"{array}_4") == "PENDING"


def test_crashed_node(slurm: Client, tmp_path: Path) -> None:
    """Breaks if a node that comes back does not run its jobs again; their logs say nothing."""
    job = slurm.submit(f'echo "restart ${{SLURM_RESTART_COUNT:-0}}"; {SLEEP}', tmp_path)
    log = tmp_path / f"{job}.log"
    slurm.wait_for(lambda: log.exists() and "restart 0" in log.read_text())
    slurm.cluster.crash_node()
    slurm.wait_for(lambda: slurm.cluster.node_state().startswith("down"), 90)
    slurm.cluster.start_daemon("slurmd")
    slurm.wait_for(lambda: "restart 1" in log.read_text())
    assert log.read_text().split("\n") == ["restart 0", "restart 1", ""]


class End(NamedTuple):
    """How a job ended: its log, and what scontrol said of it."""

    log: str
    fields: dict[str, str]


@pytest.fixture(scope="module")
def ends(slurm: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    """Jobs that end in every way, beside each other: the time limit takes a minute and a half."""
    folder = tmp_path_factory.mktemp("ends")
    trap = f"trap 'echo caught' USR2; {SLEEP}"
    jobs = {
        "limit": slurm.submit(trap, folder, "--time=1", "--signal=B:USR2@50"),
        "memory": slurm.submit(GREEDY, folder),
        "cancelled": slurm.submit(SLEEP, folder),
        "failed": slurm.submit("exit 3", folder),
        "killed": slurm.submit("kill -9 $$", folder),
    }
    slurm.wait_for_state(jobs["cancelled"], "RUNNING")
    slurm.cancel(jobs["cancelled"])
    slurm.wait_for(lambda: list(slurm.queue()) == [jobs["limit"]])
    fields = {name: slurm.show(job) for name, job in jobs.items() if name != "limit"}
    slurm.wait_for_state(jobs["limit"], "TIMEOUT", seconds=150)
    fields["limit"] = slurm.show(jobs["limit"])
    return {
        name: End((folder / f"{job}.log").read_text(), fields[name]) for name, job in jobs.items()
    }


@pytest.mark.parametrize(
    ("name", "words", "state", "reason", "code"),
    [
        ("limit", "DUE TO TIME LIMIT ***", "TIMEOUT", "TimeLimit", "0:15"),
        ("memory", "Exceeded job memory limit", "FAILED", "NonZeroExitCode", "137:0"),
        ("cancelled", "CANCELLED AT", "CANCELLED", "None", "0:15"),
        ("failed", "", "FAILED", "NonZeroExitCode", "3:0"),
        ("killed", "", "FAILED", "JobLaunchFailure", "0:9"),
    ],
)
def test_end(
    ends: dict[str, End], name: str, words: str, state: str, reason: str, code: str
) -> None:
    """Breaks if the log of a job does not say why Slurm ended it, or scontrol does not."""
    log, fields = ends[name]
    assert words in log
    assert (fields["JobState"], fields["Reason"], fields["ExitCode"]) == (state, reason, code)
    if not words:
        assert log == ""


def test_signal_before_the_time_limit(ends: dict[str, End]) -> None:
    """Breaks if a job learns of its end no earlier than at its end."""
    log = ends["limit"].log
    assert log.index("caught") < log.index("DUE TO TIME LIMIT")


def test_preemption(slurm: Client, tmp_path: Path) -> None:
    """Breaks if a job of the partition that gives way is lost rather than run again."""
    low = slurm.submit(SLEEP, tmp_path, "--partition=low")
    slurm.wait_for_state(low, "RUNNING")
    high = slurm.submit("sleep 1", tmp_path, f"--ntasks={CPUS}", "--mem=0")
    slurm.wait_for_state(high, "COMPLETED")
    slurm.wait_for_state(low, "RUNNING")
    assert slurm.show(low)["Restarts"] == "1"
    assert "DUE TO PREEMPTION ***" in (tmp_path / f"{low}.log").read_text()


@pytest.fixture
def second() -> Iterator[Cluster]:
    """Not started yet."""
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        cluster = Cluster(Path(folder) / "second")
        yield cluster
        cluster.stop()


def _processes(cluster: Cluster) -> list[str]:
    """The command lines of those with the cluster's folder in the command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            texts = [(process / name).read_bytes() for name in ("cmdline", "environ")]
        except OSError:
            continue
        if any(os.fsencode(cluster.folder) in text for text in texts):
            found.append(texts[0].decode())
    return found


def test_two_clusters(slurm: Client, second: Cluster, tmp_path: Path) -> None:
    """Breaks if a cluster disturbs another, or leaves processes or files when it stops."""
    second.start()
    jobs = {client: client.submit(SLEEP, tmp_path) for client in (slurm, Client(second))}
    for client, job in jobs.items():
        client.wait_for_state(job, "RUNNING")
        assert len(client.queue()) == 1
    assert len(_processes(second)) > len(DAEMONS)
    second.stop()
    assert _processes(second) == []
    assert not second.folder.exists()
    assert slurm.state(jobs[slurm]) == "RUNNING"


def test_a_failed_start_says_why(second: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a daemon that does not start goes unnoticed, or leaves the others behind."""
    nonsense = configuration.CONFIG + "Nonsense=1\n"
    monkeypatch.setitem(configuration.FILES, "slurm.conf", nonsense)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"slurmctld does not start[\s\S]*Nonsense"):
        second.start()
    assert time.monotonic() - began < 30
    assert _processes(second) == []
