"""The upload to OpenSSH's own server, which is what SFTP hosts run."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from job import Job
from powerschool import PowerSchool

SSHD = "/usr/sbin/sshd"
PASSWORD = "Heron-Gate-61"
CONFIG = """
HostKey {home}/../key
UsePAM no
PasswordAuthentication yes
StrictModes no
Subsystem sftp internal-sftp
ForceCommand internal-sftp
AllowUsers {user}
"""


@dataclass
class Sshd:
    user: str
    home: Path
    port: int
    public_key: str


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    """sshd on a free port, with a user of its own: one process a connection, as inetd starts it."""
    if not Path(SSHD).exists():
        pytest.skip(f"{SSHD} is missing: install openssh-server")
    if os.geteuid() != 0:
        pytest.skip("sshd checks passwords only as root")
    folder = Path(tempfile.mkdtemp(prefix="sshd-"))
    user, home = f"clever-{os.getpid()}", folder / "home"
    folder.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True
    )
    (folder / "config").write_text(CONFIG.format(home=home, user=user))
    subprocess.run(["useradd", "--home-dir", home, "--create-home", user], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{user}:{PASSWORD}", text=True, check=True)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, args=(listener, folder / "config"), daemon=True).start()
            public_key = (folder / "key.pub").read_text()
            yield Sshd(user, home, listener.getsockname()[1], public_key)
    finally:
        subprocess.run(["userdel", "--force", user], check=True, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)


def serve(listener: socket.socket, config: Path) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the fixture is done
            return
        with connection:
            subprocess.Popen(
                [SSHD, "-i", "-e", "-f", config],
                stdin=connection,
                stdout=connection,
                stderr=subprocess.DEVNULL,
            )


def test_upload_to_openssh(powerschool: PowerSchool, sshd: Sshd, job: Job) -> None:
    job.connect(powerschool).environment |= {
        "CLEVER_SFTP_USERNAME": sshd.user,
        "CLEVER_SFTP_PASSWORD": PASSWORD,
        "CLEVER_SFTP_ADDRESS": f"127.0.0.1:{sshd.port}",
    }
    job.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {sshd.public_key}")
    (sshd.home / "Sections.csv").write_text("yesterday's")
    ended = job.run()
    assert "uploaded" in ended.log, ended.stderr
    assert ended.status == 0
    golden = (Path(__file__).parent / "sample.csv").read_bytes()
    assert (sshd.home / "Sections.csv").read_bytes() == golden
    assert "Sections.csv.tmp" not in os.listdir(sshd.home)

    job.environment["CLEVER_SFTP_PASSWORD"] = "Wrong-Lake-00"
    refused = job.run()
    assert refused.status == 1
    assert "Authentication failed" in refused.stderr
