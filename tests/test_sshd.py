"""The upload to OpenSSH's own server: a plain rename over a file is refused, posix-rename works."""

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
from checks import OLD, QUICK, check_clean, check_failed
from job import Job
from line import Line
from powerschool import PowerSchool

SSHD = "/usr/sbin/sshd"
PASSWORD = "Heron-Gate-61"
GOLDEN = (Path(__file__).parent / "sample.csv").read_bytes()
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
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is missing")
    if os.geteuid() != 0:
        pytest.skip("sshd checks passwords only as root")
    folder = Path(tempfile.mkdtemp(prefix="sshd-"))
    user = f"clever-{os.getpid()}"
    home = folder / "home"
    folder.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")]
    subprocess.run(make_key, check=True)
    (folder / "config").write_text(CONFIG.format(home=home, user=user))
    subprocess.run(["useradd", "--home-dir", str(home), "--create-home", user], check=True)
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
                [SSHD, "-i", "-e", "-f", str(config)],
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=subprocess.DEVNULL,
            )


@pytest.fixture
def ready(powerschool: PowerSchool, sshd: Sshd, job: Job) -> Job:
    """The job, connected to the sample district and to sshd, with yesterday's file on both."""
    job.connect(powerschool).set(**QUICK).environment |= {
        "CLEVER_SFTP_USERNAME": sshd.user,
        "CLEVER_SFTP_PASSWORD": PASSWORD,
        "CLEVER_SFTP_ADDRESS": f"127.0.0.1:{sshd.port}",
    }
    job.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {sshd.public_key}")
    job.output.write_bytes(OLD)
    (sshd.home / "Sections.csv").write_bytes(OLD)
    return job


def check_remote(sshd: Sshd, content: bytes) -> None:
    assert (sshd.home / "Sections.csv").read_bytes() == content
    assert "Sections.csv.tmp" not in os.listdir(sshd.home)


def test_the_old_file_is_replaced(ready: Job, sshd: Sshd) -> None:
    (sshd.home / "Sections.csv.tmp").write_bytes(GOLDEN.replace(b"Math", b"Mess"))
    ended = ready.run()
    assert (ended.status, ended.stderr) == (0, "")
    assert "cannot rename" not in ended.log
    check_remote(sshd, GOLDEN)
    check_clean(ready, ended)


def test_without_a_leftover_there_is_nothing_to_say(ready: Job, sshd: Sshd) -> None:
    (sshd.home / "Sections.csv").unlink()
    ended = ready.run()
    assert (ended.status, ended.stderr) == (0, "")
    assert "may stay in Clever's folder" not in ended.log
    check_remote(sshd, GOLDEN)


def test_the_password_is_refused(ready: Job, sshd: Sshd) -> None:
    ready.environment["CLEVER_SFTP_PASSWORD"] = "Wrong-Lake-00"
    ended = ready.run()
    words = "Authentication failed. Check CLEVER_SFTP_USERNAME and CLEVER_SFTP_PASSWORD"
    check_failed(ready, ended, words, local=GOLDEN)
    assert "attempt 1" not in ended.log
    check_remote(sshd, OLD)


def test_the_folder_cannot_be_written(ready: Job, sshd: Sshd) -> None:
    sshd.home.chmod(0o500)
    shutil.chown(sshd.home, "root")
    sshd.home.chmod(0o555)
    ended = ready.run()
    words = "Permission denied. Ask Clever's support to let the account write Sections.csv"
    check_failed(ready, ended, words, local=GOLDEN)
    check_remote(sshd, OLD)


@pytest.mark.parametrize("part", [0.3, 0.6])
def test_the_line_is_cut(ready: Job, sshd: Sshd, part: float) -> None:
    with Line(sshd.port) as line:
        ready.environment["CLEVER_SFTP_ADDRESS"] = f"127.0.0.1:{line.port}"
        ready.known_hosts.write_text(f"[127.0.0.1]:{line.port} {sshd.public_key}")
        assert ready.run().status == 0
        (sshd.home / "Sections.csv").write_bytes(OLD)
        whole = line.bytes_sent
        line.cuts = [int(whole * part)] * 3
        ended = ready.run()
        assert ended.status == 1
        assert (sshd.home / "Sections.csv").read_bytes() == OLD
        line.cuts = [int(whole * part)]
        ended = ready.run()
        assert (ended.status, ended.stderr) == (0, "")
    check_remote(sshd, GOLDEN)
