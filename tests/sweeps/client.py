"""What a user of a cluster does: submit, look, signal, requeue, cancel."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.sweeps.slurm import Cluster


class Client:
    """The commands of Slurm for one cluster.

    Attributes:
        cluster: to crash its node, or stop its controller.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def environment(self) -> dict[str, str]:
        """In which any program reaches the cluster, and no other."""
        return self.cluster.environment

    def run(self, *command: str, stdin: str = "", cwd: Path | None = None) -> str:
        """What a command printed.

        Raises:
            CalledProcessError: it failed; pytest shows what it said.
        """
        done = subprocess.run(
            command, env=self.environment, input=stdin, cwd=cwd, capture_output=True, text=True
        )
        if done.returncode != 0:
            print(done.stderr)
        done.check_returncode()
        return done.stdout

    def submit(self, script: str, folder: Path, *options: str) -> str:
        """Submit lines of bash; the id.

        Both streams are appended to ``<id>.log`` in the folder, for tasks of arrays to
        ``<id>_<task>.log``. A job has 100 MiB unless the options say more.
        """
        name = "%A_%a" if any(option.startswith("--array") for option in options) else "%j"
        command = ["sbatch", "--parsable", "--mem=100", f"--output={name}.log"]
        command += ["--open-mode=append", *options]
        return self.run(*command, stdin=f"#!/bin/bash\n{script}\n", cwd=folder).strip()

    def show(self, job: str) -> dict[str, str]:
        """The fields of ``scontrol show job``, e.g. JobState, Reason, ExitCode, Restarts.

        Empty for a job that Slurm does not know any more; of an array the first entry.
        """
        command = ["scontrol", "--oneliner", "show", "job", job]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        lines = done.stdout.splitlines()
        return dict(re.findall(r"(\S+?)=(\S*)", lines[0])) if lines else {}

    def state(self, job: str) -> str:
        """In scontrol's words, "" for a job that Slurm does not know any more."""
        return self.show(job).get("JobState", "")

    def queue(self) -> dict[str, str]:
        """Id -> state of what waits or runs, tasks of arrays one by one."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def signal(self, job: str, name: str, *options: str) -> None:
        """To the processes that srun started; with ``--batch`` to the script instead."""
        self.run("scancel", f"--signal={name}", *options, job)

    def requeue(self, job: str) -> None:
        """Stop a job, or take one that is over, and let it wait again."""
        self.run("scontrol", "requeue", job)

    def cancel(self, *jobs: str) -> None:
        """Cancel jobs."""
        self.run("scancel", *jobs)

    def cancel_all(self) -> None:
        """Cancel every job, and wait until all have gone."""
        for partition in ("main", "low"):
            self.run("scancel", f"--partition={partition}")
        self.wait_for(lambda: not self.queue(), 60)

    def wait_for(self, predicate: Callable[[], object], seconds: float = 30) -> float:
        """Wait until something holds; for how many seconds.

        Raises:
            TimeoutError: it never did; with the queue and the ends of the daemons' logs.
        """
        began = time.monotonic()
        while not predicate():
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"after {seconds} s: {self.queue()}\n{self.cluster.logs()}")
            time.sleep(0.2)
        return time.monotonic() - began

    def wait_for_state(self, job: str, *states: str, seconds: float = 30) -> float:
        """Wait until a job is in one of some states; for how many seconds.

        Raises:
            TimeoutError: it never was.
        """
        return self.wait_for(lambda: self.state(job) in states, seconds)
