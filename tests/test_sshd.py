"""What happens at OpenSSH's own server: a plain rename over a file is refused, posix-rename works.

How often a password was sent is counted in the server's own log.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checks import OLD, check_clean, check_failed
from conftest import Inside
from job import Ended, Job
from line import Line
from powerschool import PowerSchool
from sshd import PASSWORD, Sshd, sshd

import clever_sections

GOLDEN = (Path(__file__).parent / "sample.csv").read_bytes()
FAILED = "ERROR uploading to 127.0.0.1: "
REFUSED = "Check CLEVER_SFTP_USERNAME and CLEVER_SFTP_PASSWORD, or ask Clever's support"
WRONG = "Wrong-Lake-00"


@contextmanager
def connected(job: Job, config_lines: str = "", key_kind: str = "ed25519") -> Iterator[Sshd]:
    """Connect the job to a server, with yesterday's file on both, while the block lasts."""
    with sshd(f"LogLevel VERBOSE\n{config_lines}", key_kind) as server:
        job.environment |= {
            "CLEVER_SFTP_USERNAME": server.user,
            "CLEVER_SFTP_PASSWORD": PASSWORD,
            "CLEVER_SFTP_ADDRESS": f"127.0.0.1:{server.port}",
        }
        job.known_hosts.write_text(server.known_hosts_line())
        job.output.write_bytes(OLD)
        (server.home / "Sections.csv").write_bytes(OLD)
        yield server


@pytest.fixture
def ready(powerschool: PowerSchool, job: Job) -> Job:
    """The job, connected to the sample district."""
    return job.connect(powerschool).set(RETRY_DELAY_SECONDS=0, CONNECT_TIMEOUT_SECONDS=60)


@pytest.fixture
def server(ready: Job) -> Iterator[Sshd]:
    with connected(ready) as server:
        yield server


def check_remote(server: Sshd, content: bytes) -> None:
    assert (server.home / "Sections.csv").read_bytes() == content
    assert "Sections.csv.tmp" not in os.listdir(server.home)


def passwords_sent(server: Sshd) -> int:
    """How many passwords were sent, right ones and wrong ones."""
    lines = server.log.read_text().split("\n")
    words = ("Accepted password", "Failed password", "Partial password", "Failed keyboard")
    return sum(line.startswith(words) for line in lines)


def attempts(ended: Ended) -> int:
    return ended.log.count("INFO attempt ") + 1


def test_the_old_file_is_replaced(ready: Job, server: Sshd) -> None:
    """The second night, what it has uploaded is what it finds, and compares with."""
    for _ in range(2):
        ended = ready.run()
        assert (ended.status, ended.stderr) == (0, "")
        check_remote(server, GOLDEN)
        check_clean(ready, ended)
    assert "cannot rename" not in ended.log
    assert "+0, -0, 0 changed" in ended.log
    assert attempts(ended) == 1
    assert passwords_sent(server) == 4  # each night to look, then to upload


def test_a_leftover_is_replaced(ready: Job, server: Sshd) -> None:
    leftover = server.home / "Sections.csv.tmp"
    leftover.write_bytes(GOLDEN.replace(b"Math", b"Mess"))
    shutil.chown(leftover, server.user)
    ended = ready.run()
    assert (ended.status, ended.stderr) == (0, "")
    assert "cannot rename" not in ended.log
    check_remote(server, GOLDEN)


def test_a_first_upload(ready: Job, server: Sshd) -> None:
    (server.home / "Sections.csv").unlink()
    ended = ready.run()
    assert (ended.status, ended.stderr) == (0, "")
    check_remote(server, GOLDEN)


def test_a_name_that_is_no_text_is_no_matter(ready: Job, server: Sshd) -> None:
    (server.home / os.fsdecode(b"caf\xe9.csv")).write_bytes(b"")
    ended = ready.run()
    assert (ended.status, ended.stderr) == (0, "")
    check_remote(server, GOLDEN)


def test_the_folder_cannot_be_written(ready: Job, server: Sshd) -> None:
    shutil.chown(server.home, "root")
    server.home.chmod(0o555)
    ended = ready.run()
    words = "opening Sections.csv.tmp: [Errno 13] Permission denied. Ask Clever's support to let"
    check_failed(ready, ended, FAILED + words, local=GOLDEN)
    check_remote(server, OLD)


def test_the_file_cannot_be_read(ready: Job, server: Sshd) -> None:
    """Nothing that nobody has seen is replaced."""
    shutil.chown(server.home / "Sections.csv", "root")
    (server.home / "Sections.csv").chmod(0o600)
    ended = ready.run()
    check_failed(ready, ended, "Permission denied", "--force", local=GOLDEN)
    check_remote(server, OLD)
    ended = ready.run("--force")
    assert ended.status == 0
    check_remote(server, GOLDEN)


# --- Refusals ---


def refusal(inside: Inside, job: Job) -> clever_sections.Failure:
    """How logging in fails, in this process: finally."""
    inside(job)
    with pytest.raises(clever_sections.Failure, match="^looking: logging in: ") as caught:
        clever_sections.Clever("looking")
    assert caught.value.is_final
    return caught.value


def test_a_refused_password_is_final(ready: Job) -> None:
    with connected(ready) as server:
        ready.environment["CLEVER_SFTP_PASSWORD"] = WRONG
        ended = ready.run()
        check_failed(ready, ended, f"{FAILED}logging in: ", REFUSED, local=GOLDEN)
        check_remote(server, OLD)
        assert attempts(ended) == 1
        assert passwords_sent(server) == 1


@pytest.mark.parametrize(
    ("config_lines", "password", "sent"),
    [
        ("MaxAuthTries 1", WRONG, 1),
        ("DenyUsers *", PASSWORD, 1),
        ("AuthenticationMethods password,publickey", PASSWORD, 1),
        ("PasswordAuthentication no", PASSWORD, 0),
        ("PasswordAuthentication no\nKbdInteractiveAuthentication yes", PASSWORD, 0),
    ],
)
def test_what_counts_as_a_refusal_of_the_account(
    inside: Inside, ready: Job, config_lines: str, password: str, sent: int
) -> None:
    with connected(ready, config_lines) as server:
        ready.environment["CLEVER_SFTP_PASSWORD"] = password
        assert str(refusal(inside, ready)).endswith(REFUSED)
        assert passwords_sent(server) == sent


def test_an_expired_password_looks_like_a_broken_line(ready: Job, server: Sshd) -> None:
    """It is let in, and then the session is closed."""
    subprocess.run(["chage", "-d", "0", server.user], check=True)
    ended = ready.run()
    check_failed(ready, ended, f"{FAILED}logging in: ", local=GOLDEN)
    check_remote(server, OLD)
    assert passwords_sent(server) == attempts(ended) == 3


def test_no_common_algorithm(ready: Job) -> None:
    with connected(ready, "MACs umac-64@openssh.com") as server:
        ended = ready.run()
        words = ("no common algorithm", "Clever's support")
        check_failed(ready, ended, f"{FAILED}logging in: ", *words, local=GOLDEN)
        check_remote(server, OLD)
        assert passwords_sent(server) == 0
        assert attempts(ended) == 1


@pytest.mark.parametrize(
    ("config_lines", "key_kind"),
    [
        ("KexAlgorithms diffie-hellman-group14-sha1", "ed25519"),
        ("Ciphers chacha20-poly1305@openssh.com", "ed25519"),
        ("HostKeyAlgorithms ssh-rsa", "rsa"),
    ],
)
def test_on_what_there_can_be_no_common_algorithm(
    inside: Inside, ready: Job, config_lines: str, key_kind: str
) -> None:
    with connected(ready, config_lines, key_kind) as server:
        failure = refusal(inside, ready)
        assert "no common algorithm" in str(failure)
        assert "Clever's support" in str(failure)
        assert passwords_sent(server) == 0


# --- Lines that break or freeze ---


@contextmanager
def over_a_line(job: Job, server: Sshd) -> Iterator[Line]:
    with Line(server.port) as line:
        job.environment["CLEVER_SFTP_ADDRESS"] = f"127.0.0.1:{line.port}"
        job.known_hosts.write_text(f"[127.0.0.1]:{line.port} {server.public_key}")
        yield line


@pytest.mark.takes_long
def test_the_line_is_cut(ready: Job, server: Sshd) -> None:
    """At the look three times, at the upload three times; then it is whole again."""
    with over_a_line(ready, server) as line:
        assert ready.run("--dry-run").status == 0
        look = line.bytes_sent
        assert ready.run().status == 0
        upload = line.bytes_sent - 2 * look
        for before, whole, parts in ((0, look, (0.75, 0.85, 0.95)), (1, upload, (0.3, 0.6, 0.9))):
            (server.home / "Sections.csv").write_bytes(OLD)
            ready.uploaded.unlink(missing_ok=True)
            line.cuts = [*[10**9] * before, *(int(whole * part) for part in parts)]
            ended = ready.run()
            check_failed(ready, ended, FAILED, local=GOLDEN)
            assert (server.home / "Sections.csv").read_bytes() == OLD
            assert line.cuts == []
        ended = ready.run()
        assert (ended.status, ended.stderr) == (0, "")
    check_remote(server, GOLDEN)
