"""What the daemons of a Slurm of one node read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

NODE = "localhost"
"""Name of the node; unlike an invented one it resolves to an address inside a job."""
CPUS = 8

CONFIG = """\
ClusterName=soc_ft
SlurmctldHost={node}({address})
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
{binding}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for its credential to expire; this is the shortest time that is accepted.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
MailProg=/bin/true
MpiDefault=none
# Without cgroups.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
# Seconds between TERM and KILL; with more, a job that is requeued as its node returns could meet
# its own remains.
KillWait=2
MinJobAge=60
OverTimeLimit=0
SlurmdTimeout=10
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
DefMemPerCPU={memory_per_cpu}
NodeName={node} NodeAddr={address} CPUs={cpus} RealMemory={memory} Gres=gpu:{cpus}
PartitionName=main Nodes={node} Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes={node} PriorityTier=1 PreemptMode=REQUEUE
"""
ONE_ADDRESS = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
# slurmd wants to know, though nothing uses them; this kind alone may be absent.
CGROUPS = "CgroupPlugin=cgroup/v1\n"
GPUS = "NodeName={node} Name=gpu File={folder}/gpus/[0-{last}]\n"
FILES = {"slurm.conf": CONFIG, "cgroup.conf": CGROUPS, "gres.conf": GPUS}
KEY = "munge.key"
"""The first file to be written and the last to go."""
WRITTEN = ("munge.seed", *FILES, "gpus", "state", "spool", "log")
"""What else is in the folder, besides the daemons' sockets and pid files."""


def write(folder: Path) -> None:
    """Write all that the daemons read, with ports that are free now.

    Raises:
        FileExistsError: the folder holds something else by one of the names.
    """
    if taken := [name for name in WRITTEN if (folder / name).exists()]:
        raise FileExistsError(f"{folder} holds {', '.join(taken)} of something else")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEY).write_bytes(os.urandom(1024))
    (folder / KEY).chmod(0o600)
    for name in ("state", "spool", "log", "gpus"):
        (folder / name).mkdir()
    for number in range(CPUS):
        (folder / "gpus" / str(number)).symlink_to("/dev/null")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20  # MiB
    address = _own_address()
    values = {
        "folder": folder,
        "node": NODE,
        "address": address or "127.0.0.1",
        "binding": ONE_ADDRESS if address else "",
        "ports": _free_ports(),
        "cpus": CPUS,
        "last": CPUS - 1,
        "memory": memory,
        "memory_per_cpu": memory // CPUS,
    }
    for name, text in FILES.items():
        (folder / name).write_text(text.format(**values))


def _own_address() -> str | None:
    """What daemons and srun bind when told not to bind every address; None if that cannot be."""
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        return None
    # Debian's 127.0.1.1: others see calls from it come from 127.0.0.1, and call back there.
    return None if address.startswith("127.") and address != "127.0.0.1" else address


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("", 0))
        return first.getsockname()[1], second.getsockname()[1]
