"""A real Slurm on one machine: installs Debian's packages, starts and stops virtual nodes.

python tests/slurm/lab.py install | start FOLDER | stop FOLDER
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from processes import end, environ, runs, until

PACKAGES = "slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core mariadb-client-core"
DAEMONS = (
    "slurmd",
    "slurmctld",
    "slurmdbd",
    "mariadbd",
    "munged",
)  # in the order in which they are stopped

# cred_expire: a requeued job waits for its credential to expire, 2 minutes by default; 5 s is the
# least. proctrack, task, config_overrides: no cgroups, and more CPUs declared than there are.
# DefMemPerCPU: without it a job takes the memory of a whole node. The intervals and waits are
# shortened, so that a test takes seconds.
CONF = """
ClusterName=lab
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
{listen}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdTimeout=10
MessageTimeout=2
KillWait=10
ReturnToService=2
MaxArraySize=101
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports} \
  CPUs=4 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits
AccountingStorageTRES=gres/gpu
"""
DBD = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
{listen_dbd}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageUser={user}
StorageLoc=accounting
"""


@dataclass(frozen=True)
class Lab:
    """A cluster in `folder`, whose path must be short: a socket's may have 107 characters."""

    folder: Path
    port: int
    accounting: bool = False
    user_signal: bool = False  # preempted jobs are sent USR2 as well
    nodes: int = 4

    @property
    def env(self) -> dict[str, str]:
        files = {"SLURM_CONF": "slurm.conf", "MYSQL_UNIX_PORT": "mysql"}
        return {**os.environ, **{name: str(self.folder / file) for name, file in files.items()}}

    def run(self, *command: str) -> str:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def configure(self) -> None:
        here = self.folder
        (here / "state").mkdir(parents=True, exist_ok=True)
        # Told to listen on one address only, Slurm takes the one of the host's name: it must be
        # 127.0.0.1 itself.
        alone = address(socket.gethostname()) == "127.0.0.1"
        words = {
            "folder": here,
            "port": self.port,
            "dbd_port": self.port + 1,
            "nodes": self.nodes,
            "ports": f"[{self.port + 2}-{self.port + 1 + self.nodes}]",
            "user": self.run("id", "-un").strip(),
            "listen": "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" if alone else "",
            "listen_dbd": "CommunicationParameters=NoInAddrAny" if alone else "",
        }
        signalling = "SlurmctldParameters=preempt_send_user_signal\n" * self.user_signal
        (here / "slurm.conf").write_text(
            (CONF + ACCOUNTING * self.accounting + signalling).format(**words)
        )
        (here / "slurmdbd.conf").write_text(DBD.format(**words))
        (here / "slurmdbd.conf").chmod(0o600)
        for number in range(2):  # Slurm takes device files alone for GPUs
            (here / f"nvidia{number}").unlink(missing_ok=True)
            (here / f"nvidia{number}").symlink_to("/dev/null")
        (here / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={here}/nvidia[0-1]\n")
        if (
            int(self.run("slurmd", "-V").split()[1].split(".")[0]) >= 24
        ):  # a word that older ones refuse
            (here / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        key = here / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))

    def start(self) -> None:
        self.configure()
        here = self.folder
        kinds = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        kinds |= {"seed-file": "munged.seed", "log-file": "munged.log"}
        files = [f"--{option}={here / name}" for option, name in kinds.items()]
        self.run("munged", "--force", *files)  # --force: also below a folder that is private
        until(lambda: self.run("munge", "-n", f"--socket={here / 'munge.socket'}"))
        if self.accounting:
            self.start_accounting()
        self.run("slurmctld")
        until(lambda: self.run("scontrol", "ping"))
        for number in range(1, self.nodes + 1):
            self.run("slurmd", "-N", f"node{number}")
        until(lambda: self.states() == ["idle"] * self.nodes)

    def start_accounting(self) -> None:
        here, user = self.folder, self.run("id", "-un").strip()
        if not (here / "database").exists():
            self.run(
                "mariadb-install-db",
                "--no-defaults",
                f"--user={user}",
                f"--datadir={here}/database",
                "--skip-test-db",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={user}",
            )
        command = [
            "mariadbd",
            "--no-defaults",
            f"--user={user}",
            f"--datadir={here}/database",
            "--skip-networking",
            f"--socket={here}/mysql",
            f"--pid-file={here}/mariadbd.pid",
            "--innodb-flush-log-at-trx-commit=0",
            f"--log-error={here}/mariadbd.log",
            "--innodb-lock-wait-timeout=900",
        ]
        nothing = subprocess.DEVNULL
        subprocess.Popen(
            command, env=self.env, start_new_session=True, stdin=nothing, stdout=nothing
        )
        sql = "CREATE DATABASE IF NOT EXISTS accounting"
        until(
            lambda: (
                self.run("mariadb", "--no-defaults", f"--socket={here}/mysql", "-e", sql)
                + "answers"
            )
        )
        self.run("slurmdbd")
        until(lambda: self.run("sacctmgr", "-n", "list", "cluster") + "answers")
        if "lab" not in self.run(
            "sacctmgr", "-n", "list", "cluster"
        ):  # else no account but these may submit
            for words in (("cluster", "lab"), ("account", "lab"), ("user", user, "account=lab")):
                self.run("sacctmgr", "-i", "add", *words)

    def stop(self) -> None:
        for program in DAEMONS:
            for pid in self.processes():
                if runs(pid, program):
                    end(pid, program)
            if program == "slurmd":
                for pid in [*self.steps(), *self.tasks()]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        for path in self.folder.glob("*.pid"):
            path.unlink()

    def begin(self, program: str, *words: str) -> None:
        """Starts a daemon that was stopped or killed, and waits until all nodes can be used."""
        self.run(program, *words)
        until(lambda: self.run("scontrol", "ping").count("UP"))
        until(lambda: not {"down", "unknown"} & {state.strip("*") for state in self.states()})

    def states(self) -> list[str]:
        """Of the nodes, in order."""
        return self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()

    def kill(self, program: str, how: int = signal.SIGKILL) -> None:
        """As a crash would end a daemon, such as slurmctld or slurmd-node1."""
        path = self.folder / f"{program}.pid"
        end(int(path.read_text()), program.split("-")[0], how)
        path.unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """The job steps that read this cluster's configuration."""
        return [pid for pid in self.processes() if runs(pid, "slurmstepd")]

    def tasks(self) -> dict[int, str]:
        """The Python processes of jobs, each with its job's number."""
        words = {
            pid: dict(word.split(b"=", 1) for word in environ(pid) if b"=" in word)
            for pid in self.processes()
        }
        return {
            pid: word[b"SLURM_JOB_ID"].decode()
            for pid, word in words.items()
            if b"SLURM_JOB_ID" in word and runs(pid, "python")
        }

    def pythons(self, job: str) -> list[int]:
        """The processes of a job's tasks."""
        number = self.run("squeue", "-h", f"--jobs={job}", "-o", "%A").strip()
        return [pid for pid, mine in self.tasks().items() if mine == number]

    def processes(self) -> list[int]:
        """All that this cluster has started, and all who ask it."""
        mine = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        return [
            pid
            for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if mine in environ(pid)
        ]


def address(name: str) -> str | None:
    try:
        return socket.gethostbyname(name)
    except OSError:
        return None


def install() -> None:
    """Needs Debian or a child of it; elsewhere it says so, and the tests are skipped.

    RUNLEVEL=1 keeps the packages from starting services of their own.
    """
    if all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd"))):
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    quiet = [
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "RUNLEVEL=1",
        "apt-get",
        "-qq",
        "--no-install-recommends",
    ]
    try:
        subprocess.run([*sudo, "apt-get", "-qq", "update"], check=True, timeout=300)
        subprocess.run([*sudo, *quiet, "-y", "install", *PACKAGES.split()], check=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"Slurm cannot be installed here, its tests are skipped: {error}", file=sys.stderr)


if __name__ == "__main__":
    verb, *where = sys.argv[1:]
    lab = Lab(Path(*where).resolve(), 26800, accounting=True)
    {"install": install, "start": lab.start, "stop": lab.stop}[verb]()
