"""Hosts on one machine: each has a network, processes, a name, memory and a disk of its own, and answers SSH.

They are namespaces of the Linux kernel, and need root. A host dies with all its processes when its first one does.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

BRIDGE, PORT, NETWORK = "ordclust0", "ordclust_port", "10.213.7"
"""A network that no other machine is on."""
PROGRAMS = ("unshare", "nsenter", "ip", "ssh", "ssh-keygen", "rsync", "curl", "/usr/sbin/sshd")
UNSHARE = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork")

BOOT = """
set -e
mount -t tmpfs -o size={disk} tmpfs {top}
mkdir {top}/changes {top}/work {top}/root
mount -t overlay overlay -o lowerdir=/,upperdir={top}/changes,workdir={top}/work {top}/root
cd {top}/root
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o size={memory} tmpfs dev/shm
for folder in {shared}; do
  mkdir -p {top}/seen$folder
  mount --bind $folder {top}/seen$folder
done
mount -t tmpfs -o size={disk} tmpfs tmp
for folder in {shared}; do
  mkdir -p {top}/root$folder
  mount --bind {top}/seen$folder {top}/root$folder
done
hostname {name}
mkdir -p run/sshd root/.ssh etc/ordclust
cp {keys}/key.pub root/.ssh/authorized_keys
cp {keys}/host etc/ordclust/host
chmod -R go-rwx root/.ssh etc/ordclust
printf '{names}' > etc/hosts
until ip link show eth0 > /dev/null 2>&1; do sleep 0.05; done
exec chroot . /usr/sbin/sshd -D -o HostKey=/etc/ordclust/host -o PermitRootLogin=yes -o UsePAM=no -o UseDNS=no \
  -o StrictModes=no -o AuthorizedKeysFile=.ssh/authorized_keys -o MaxStartups=100 -o MaxSessions=100
"""


@dataclass(frozen=True)
class Host:
    """A host that runs.

    Attributes:
        name: of the host.
        address: in the network of the hosts.
        pid: of its first process, as this machine sees it.
        port: name of the interface that the bridge has for it.
        key: file of the key that lets in.
    """

    name: str
    address: str
    pid: int
    port: str
    key: Path

    def ssh(self, *more: str) -> list[str]:
        """A command line that ends before the remote command."""
        quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return ["ssh", "-i", str(self.key), *quiet, *more, f"root@{self.address}"]

    def run(self, command: str) -> str:
        """What a shell command on the host printed; it has to end well."""
        done = subprocess.run([*self.ssh(), command], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def processes(self, words: str) -> list[psutil.Process]:
        """Its processes whose command line has these words."""
        return [
            process
            for process in psutil.Process(self.pid).children(recursive=True)
            if words in " ".join(_command_line(process))
        ]

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """Nobody reaches it meanwhile."""
        _ip("link", "set", self.port, "down")
        yield
        _ip("link", "set", self.port, "up")

    def pull_the_plug(self) -> None:
        """kill -9 of everything on it."""
        os.kill(self.pid, signal.SIGKILL)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ended meanwhile
        return []


def missing() -> str:
    """Why there can be no hosts here; empty where there can."""
    if os.geteuid():
        return "hosts of namespaces need root"
    absent = [name for name in PROGRAMS if subprocess.run(["which", name], capture_output=True).returncode]
    if absent:
        return f"hosts need {', '.join(absent)}"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True)
    return f"no namespaces: {tried.stderr.decode().strip()}" if tried.returncode else ""


@contextlib.contextmanager
def hosts(folder: Path, names: Sequence[str], shared: Sequence[Path], disk: str = "4g") -> Iterator[list[Host]]:
    """Hosts that reach each other and this machine.

    Args:
        folder: an empty one, of what they need.
        names: of the hosts.
        shared: folders that all of them see, at the same path.
        disk: size of what each may write.
    """
    keys = folder / "keys"
    keys.mkdir()
    for name in ("key", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    _ip("link", "add", BRIDGE, "type", "bridge")
    processes: list[subprocess.Popen[bytes]] = []
    try:
        _ip("address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        addresses = {name: f"{NETWORK}.{10 + number}" for number, name in enumerate(names)}
        known = "\\n".join(["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items()), ""])
        found = []
        for name, address in addresses.items():
            top = folder / name
            top.mkdir()
            boot = BOOT.format(
                top=shlex.quote(str(top)),
                name=name,
                names=known,
                disk=disk,
                memory="1g",
                keys=shlex.quote(str(keys)),
                shared=" ".join(shlex.quote(str(path)) for path in shared),
            )
            process = subprocess.Popen(
                [*UNSHARE, "--kill-child", "--propagation", "private", "bash", "-c", boot],
                env={key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ},
            )
            processes.append(process)
            found.append(Host(name, address, _first_process(process), f"{PORT}{len(processes)}", keys / "key"))
            _connect(found[-1])
        for host in found:
            _wait_for_ssh(host)
        yield found
    finally:
        for number, process in enumerate(processes, start=1):
            subprocess.run(["ip", "link", "delete", f"{PORT}{number}"], capture_output=True)  # or gone with its host
            process.kill()  # its host dies with it
            process.wait()
        _ip("link", "delete", BRIDGE)


def _first_process(unshare: "subprocess.Popen[bytes]") -> int:
    for _ in range(100):
        children = psutil.Process(unshare.pid).children()
        if children:
            return int(children[0].pid)
        time.sleep(0.02)
    raise AssertionError("a host did not start")


def _connect(host: Host) -> None:
    """Both ends of its cable."""
    _ip("link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
    _ip("link", "set", host.port, "master", BRIDGE)
    _ip("link", "set", host.port, "up")
    inside = f"ip link set lo up && ip address add {host.address}/24 dev eth0 && ip link set eth0 up"
    inside += f" && ip route add default via {NETWORK}.1"  # Ray asks which address a way out would have
    subprocess.run(["nsenter", "--net", "--target", str(host.pid), "sh", "-c", inside], check=True)


def _wait_for_ssh(host: Host) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((host.address, 22), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"{host.name} does not answer")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
