"""A real Slurm of one node for tests: ``python -m tests.sweeps.slurm install|start|stop|status``.

It needs root and Debian's packages ``slurm-wlm`` and ``munge``, but neither systemd nor cgroups.
Everything it writes is in a folder of its own, so that several of them, and one that belongs to
the machine, run beside each other. A shell reaches it after

    eval "$(python -m tests.sweeps.slurm start)"

The node pretends to have more CPUs than there are, so that several small jobs run at once, and as
many GPUs, which jobs may ask for and do not get. The partition ``main`` preempts ``low``, whose
jobs are then requeued.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.sweeps import configuration
from tests.sweeps.configuration import NODE

PACKAGES = ("slurm-wlm", "munge")
DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "soc_ft-slurm"
DAEMONS = ("munged", "slurmctld", "slurmd")
"""In the order in which they start."""
LONGEST_FOLDER = 60
"""Characters; a Unix socket's path has at most 107, and some lie two levels below."""


def missing() -> str:
    """Why a cluster cannot run here at all; "" if it can."""
    absent = [name for name in DAEMONS if _binary(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: apt-get install {' '.join(PACKAGES)})"
    return "" if os.geteuid() == 0 else "slurmd runs as root only"


def install() -> None:
    """Install Debian's packages unless they are there.

    Raises:
        RuntimeError: this is not root.
        OSError: there is no apt-get.
        CalledProcessError: it failed.
    """
    if all(_binary(name) for name in DAEMONS):
        return
    if os.geteuid() != 0:
        raise RuntimeError("only root installs packages")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *PACKAGES]
    subprocess.run(command, check=True, env=environment)


class Cluster:
    """One node, its controller and their munge in a folder.

    Args:
        folder: need not exist.

    Raises:
        ValueError: Slurm cannot work in a folder with this path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        path = str(self.folder)
        if len(path) > LONGEST_FOLDER or shlex.quote(path) != path:
            raise ValueError(f"{path}: at most {LONGEST_FOLDER} characters, without spaces")

    @property
    def environment(self) -> dict[str, str]:
        """That of this process, with this cluster in place of any other."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        return kept | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons and wait until the node is idle.

        Raises:
            RuntimeError: it runs already, or did not start; then with the ends of the logs.
        """
        if any(self.pid(name) for name in DAEMONS):
            raise RuntimeError(f"a cluster runs in {self.folder}")
        self._remove()
        configuration.write(self.folder)
        try:
            for name in DAEMONS:
                self.start_daemon(name)
            self.await_idle()
        except RuntimeError:
            self.stop()
            raise

    def stop(self) -> None:
        """End the daemons and every job, and remove what they wrote."""
        self.stop_daemon("slurmctld")
        self.crash_node()
        self.stop_daemon("munged")
        self._remove()

    def crash_node(self) -> None:
        """Kill slurmd and every job, as a power cut does; start_daemon("slurmd") repairs it."""
        self.stop_daemon("slurmd", signal.SIGKILL)
        for pid in self._job_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start_daemon(self, name: str) -> None:
        """Start one of `DAEMONS`, which puts itself into the background.

        Raises:
            RuntimeError: it refused.
        """
        folder = self.folder
        arguments = {
            "munged": [
                # Others need not reach the socket: then this is a warning, not an error.
                "--force",
                f"--socket={folder}/munge.socket",
                f"--key-file={folder}/munge.key",
                f"--seed-file={folder}/munge.seed",
                f"--pid-file={folder}/munged.pid",
                f"--log-file={folder}/log/munged.log",
            ],
            "slurmctld": ["-f", f"{folder}/slurm.conf"],
            "slurmd": ["-f", f"{folder}/slurm.conf", "-N", NODE],
        }
        command = [str(_binary(name)), *arguments[name]]
        with open(folder / "log" / f"{name}.err", "ab") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )
        if done.returncode != 0:
            raise RuntimeError(f"{name} does not start\n{self.logs()}")

    def stop_daemon(self, name: str, number: int = signal.SIGTERM) -> None:
        """Send a signal that ends one of `DAEMONS`, and wait until it has gone.

        Raises:
            RuntimeError: it stays.
        """
        pid = self.pid(name)
        if pid is None:
            return
        os.kill(pid, number)
        deadline = time.monotonic() + 30
        while self.pid(name) == pid:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} (process {pid}) does not end\n{self.logs()}")
            time.sleep(0.05)

    def pid(self, name: str) -> int | None:
        """The process of one of `DAEMONS` if it lives."""
        try:
            pid = int((self.folder / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return None
        # Nobody else's process that got the number; and a dead one has no command line.
        arguments = _read(Path(f"/proc/{pid}/cmdline")).split("\0")
        return pid if any(str(self.folder) in argument for argument in arguments) else None

    def await_idle(self, seconds: float = 30) -> None:
        """Wait until the node takes jobs.

        Raises:
            RuntimeError: it does not; with the ends of the logs.
        """
        deadline = time.monotonic() + seconds
        while self.node_state() != "idle":
            if time.monotonic() > deadline:
                raise RuntimeError(f"the node is {self.node_state()!r}\n{self.logs()}")
            time.sleep(0.1)

    def node_state(self) -> str:
        """In sinfo's words; "" without a controller."""
        if self.pid("slurmctld") is None:
            return ""  # sinfo would try for a minute
        command = ["sinfo", "--noheader", "--format=%T", "--partition=main"]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def logs(self, lines: int = 20) -> str:
        """The ends of the daemons' logs."""
        found = sorted((self.folder / "log").glob("*"))
        ends = ((path.name, _read(path).splitlines()[-lines:]) for path in found)
        return "\n".join(f"-- {name}\n" + "\n".join(end) for name, end in ends if end)

    def _remove(self) -> None:
        """Remove what a cluster wrote if one did, and the folder if nothing else is in it."""
        if not (self.folder / configuration.KEY).exists():
            return
        for name in configuration.WRITTEN:
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path in (*self.folder.glob("*.pid"), *self.folder.glob("munge.socket*")):
            path.unlink()
        (self.folder / configuration.KEY).unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _job_processes(self) -> list[int]:
        """Processes of jobs and the slurmstepd above them."""
        marks = {f"SLURM_CONF={self.folder}/slurm.conf"}
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            environment = set(_read(process / "environ").split("\0"))
            is_job = any(entry.startswith("SLURM_JOB_ID=") for entry in environment)
            is_step = _read(process / "comm").startswith("slurmstepd")
            if marks <= environment and (is_job or is_step):
                found.append(int(process.name))
        return found


def _binary(name: str) -> str | None:
    """Daemons are where not every shell looks."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def _read(path: Path) -> str:
    """The text of a file that may vanish or be another user's."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.sweeps.slurm", description=__doc__)
    parser.add_argument("action", choices=("install", "start", "stop", "status"))
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    arguments = parser.parse_args()
    if arguments.action == "install":
        install()
        return
    if missing():
        sys.exit(missing())
    cluster = Cluster(arguments.folder)
    if arguments.action == "start":
        cluster.start()
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}")
    elif arguments.action == "stop":
        cluster.stop()
    else:
        for name in DAEMONS:
            print(f"{name}: {cluster.pid(name) or 'does not run'}")
        print(f"node: {cluster.node_state() or 'unknown'}")


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
