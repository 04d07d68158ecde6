"""OpenSSH's own server, with a user and a host key of its own, while a `with` block lasts.

    with sshd("MaxAuthTries 1", key_kind="rsa") as server:
        server.user, PASSWORD, server.port, server.known_hosts_line()
        (server.home / "Sections.csv").read_bytes()

The first lines of sshd's configuration are those that are given: of a keyword that stands twice,
sshd takes the first.
"""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = "/usr/sbin/sshd"
PASSWORD = "Heron-Gate-61"
CONFIG = """
HostKey {folder}/key
UsePAM no
PasswordAuthentication yes
StrictModes no
Subsystem sftp internal-sftp
ForceCommand internal-sftp
AllowUsers {user}
"""
NUMBERS = itertools.count(1)  # of this process's servers: each has a user of its own


@dataclass
class Sshd:
    """A server that runs. `log` is the file to which it tells what it does."""

    user: str
    home: Path
    port: int
    public_key: str
    log: Path

    def known_hosts_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.public_key}"


def skip_without_sshd() -> None:
    """Skip the test, with a reason, on a machine that cannot run the server."""
    if not Path(SSHD).exists():
        pytest.skip(f"{SSHD} is missing: install openssh-server")
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is missing")
    if os.geteuid() != 0:
        pytest.skip("sshd checks passwords only as root")
    if not shutil.which("useradd"):
        pytest.skip("useradd is missing: it makes the user to log in as")


@contextmanager
def sshd(config_lines: str = "", key_kind: str = "ed25519") -> Iterator[Sshd]:
    """sshd on a free port, with a user of its own: one process a connection, as inetd starts it."""
    skip_without_sshd()
    folder = Path(tempfile.mkdtemp(prefix="sshd-"))
    folder.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    user = f"clever-{os.getpid()}-{next(NUMBERS)}"
    home = folder / "home"
    log = folder / "log"
    config = folder / "config"
    config.write_text(f"{config_lines}\n{CONFIG.format(folder=folder, user=user)}")
    make_key = ["ssh-keygen", "-q", "-t", key_kind, "-N", "", "-f", str(folder / "key")]
    subprocess.run(make_key, check=True)
    subprocess.run(["useradd", "--home-dir", str(home), "--create-home", user], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{user}:{PASSWORD}", text=True, check=True)
        public_key = (folder / "key.pub").read_text()
        with listening(config, log) as port:
            yield Sshd(user, home, port, public_key, log)
    finally:
        subprocess.run(["userdel", "--force", user], check=True, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)


@contextmanager
def listening(config: Path, log: Path) -> Iterator[int]:
    """Serve on a free port, which this yields. Afterwards nothing of it is open, or still runs."""
    started: list[subprocess.Popen[bytes]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, open(log, "ab") as output:
        server = threading.Thread(target=serve, args=(listener, config, output.fileno(), started))
        server.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # this wakes `accept`; closing it would not
            server.join()
            for process in started:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # it, and what outlives it
                process.wait()


def serve(
    listener: socket.socket, config: Path, log: int, started: list[subprocess.Popen[bytes]]
) -> None:
    """Start sshd for each connection, until the listener is shut down."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            process = subprocess.Popen(
                [SSHD, "-i", "-e", "-f", str(config)],
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=log,
                start_new_session=True,  # its children are in a group with it
            )
        started.append(process)
