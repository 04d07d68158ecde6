"""This machine, fault by fault: variables, known_hosts, files, signals, closed streams."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import asyncssh
import district
import pytest
from checks import (
    NEW_FILES,
    OLD,
    check_clean,
    check_failed,
    check_remote,
    check_uploaded,
    new_file,
    wait_for,
)
from clever import Clever
from faults import BUSY, HANG, at
from job import Job
from powerschool import PowerSchool

# Root may write everywhere, unless it gives up the right to.
WITHOUT_PRIVILEGE = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
]
AS_A_USER = WITHOUT_PRIVILEGE if os.geteuid() == 0 else []
ADVICE_ON_PERMISSION = ". The user who runs the job must be able to write to it and to its folder. "
OTHER_USER = 12345


# --- Variables ---


@pytest.mark.parametrize("empty", ["", " ", None])
def test_missing_variables(ready: Job, clever: Clever, empty: str | None) -> None:
    for name in ("POWERSCHOOL_PROD_DB", "CLEVER_SFTP_USERNAME"):
        if empty is None:
            del ready.environment[name]
        else:
            ready.environment[name] = empty
    ended = ready.run()
    words = "ERROR missing or empty variables: POWERSCHOOL_PROD_DB, CLEVER_SFTP_USERNAME\n"
    check_failed(ready, ended, words, status=2)
    check_remote(clever, OLD)


@pytest.mark.parametrize("name", ["POWERSCHOOL_DB_PASSWORD", "CLEVER_SFTP_PASSWORD"])
@pytest.mark.parametrize("end", ["\r", "\n", " ", "\t", "\r\n"])
def test_a_password_from_a_windows_editor(
    ready: Job, quiet: PowerSchool, clever: Clever, name: str, end: str
) -> None:
    ready.environment[name] += end
    ended = ready.run()
    words = f"ERROR {name} ends in a blank or a line end. Remove it\n"
    check_failed(ready, ended, words, status=2)
    assert (quiet.steps, clever.steps) == ([], [])


@pytest.mark.parametrize("name", ["POWERSCHOOL_DB_PASSWORD", "CLEVER_SFTP_USERNAME"])
def test_a_variable_in_another_encoding(
    ready: Job, quiet: PowerSchool, clever: Clever, name: str
) -> None:
    ready.environment[name] = os.fsdecode(b"Caf\xe9-Oak-17")
    ended = ready.run()
    words = f"ERROR {name} is not in UTF-8. Save the file that sets it as UTF-8\n"
    check_failed(ready, ended, words, status=2)
    assert (quiet.steps, clever.steps) == ([], [])


def test_other_variables_from_a_windows_editor(ready: Job, clever: Clever) -> None:
    for name in ready.environment:
        if "PASSWORD" not in name:
            ready.environment[name] = f" {ready.environment[name]} \r"
    check_uploaded(ready, ready.run(), clever)


@pytest.mark.parametrize(
    "address",
    [
        "district-0042@{address}",
        "sftp://district-0042:{password}@{address}",
        "{password}@sftp.clever.com",
        "sftp.clever.com:{password}",
        "sftp.clever.com/{password}",
        "sftp://{address}/home/district",
        "{password}",
        "sftp://{password}:22/",
        "district-0042",
        "sftp..clever.com",
        ".clever.com",
        "a" * 64,
        "127.0.0.1:ssh",
        "127.0.0.1:99999",
        "127.0.0.1:0",
        "127.0.0.1:",
        "sftp://",
        "sftp clever com",
        "[::1",
    ],
)
def test_an_address_that_is_none(ready: Job, clever: Clever, address: str) -> None:
    filled = address.format(address=clever.address, password=clever.password)
    ready.environment["CLEVER_SFTP_ADDRESS"] = filled
    ended = ready.run()
    words = "ERROR CLEVER_SFTP_ADDRESS is not an address. Set it to sftp.clever.com or to host:port"
    check_failed(ready, ended, words, local=OLD, status=2)
    assert "district-0042" not in ended.stderr + ended.log
    check_remote(clever, OLD)
    assert clever.passwords == []


def test_an_ipv6_address(ready: Job, clever: Clever) -> None:
    """In brackets, as everywhere; here one that is the address of the stand-in."""
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"[::ffff:127.0.0.1]:{clever.port}"
    host = f"[::ffff:127.0.0.1]:{clever.port}"
    ready.known_hosts.write_text(clever.known_hosts_line(host=host))
    check_uploaded(ready, ready.run(), clever)


def test_a_dot_in_a_name_is_a_dot(ready: Job, clever: Clever) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = "sftp-clever.invalid"
    ready.known_hosts.write_text(clever.known_hosts_line(host="sftp.clever.invalid"))
    words = "known_hosts has no key of sftp-clever.invalid. Fetch"
    check_failed(ready, ready.run(), words, local=new_file(ready))


@pytest.mark.parametrize(
    "address", ["sftp://127.0.0.1:{port}", "sftp://127.0.0.1:{port}/", "SFTP://127.0.0.1:{port}"]
)
def test_an_address_with_a_scheme(ready: Job, clever: Clever, address: str) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = address.format(port=clever.port)
    check_uploaded(ready, ready.run(), clever)


# --- Settings in a wrong form ---


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("IGNORED_SCHOOLS", 800, "Write it like {800, 999999}; none is set()"),
        ("IGNORED_SCHOOLS", {"800"}, "Write it like {800, 999999}; none is set()"),
        ("HIGH_SCHOOL_IDS", {}, "Write it like {300, 310}; none is set()"),
        ("IGNORED_COURSES", "LUNCH", 'Write it like {"LUNCH", "DUTY"}; none is set()'),
        ("IGNORED_ROLES", None, 'Write it like {"Class Observer", "Aide"}; none is set()'),
        ("MAX_LOST", 10, "It is a share: 0.1 is 10%"),
        ("MAX_LOST", -0.1, "It is a share: 0.1 is 10%"),
    ],
)
def test_a_setting_in_a_wrong_form(
    ready: Job, quiet: PowerSchool, clever: Clever, name: str, value: object, words: str
) -> None:
    ended = ready.set(**{name: value}).run()
    check_failed(ready, ended, f"ERROR {name} has a wrong form. {words}\n", status=2)
    assert (quiet.steps, clever.steps) == ([], [])


def test_a_bug_is_one_line_and_exit_status_1(ready: Job, clever: Clever) -> None:
    """As it is for what nobody thought of, such as this form of a setting."""
    ended = ready.set(GRADE_NAMES=None).run()
    check_failed(
        ready, ended, "ERROR a bug in this script: TypeError ", "clever_sections.py, line "
    )
    check_remote(clever, OLD)


# --- The command line ---


@pytest.mark.parametrize(
    "options",
    [
        ["--date", "yesterday"],
        ["--date", "2026-02-30"],
        ["--date", "9999-12-31"],
        ["--date", "10000-01-01"],
        ["--dryrun"],
        ["--dry-run", "x"],
    ],
)
def test_a_wrong_command_line(ready: Job, quiet: PowerSchool, options: list[str]) -> None:
    ended = ready.run(*options)
    assert ended.status == 2
    assert options[-1] in ended.stderr
    assert ended.files == {"Sections.csv"}
    assert quiet.round_trips == 0
    check_clean(ready, ended)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-30", "2028-02-29"])
def test_any_day_that_can_be_calculated_with(ready: Job, day: str) -> None:
    ended = ready.run("--dry-run", "--date", day)
    assert (ended.status, ended.stderr) == (0, "")
    assert "no school is in session" in ended.log


# --- known_hosts ---


def public(kind: str) -> str:
    return asyncssh.generate_private_key(kind).export_public_key().decode().strip()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (None, "reading known_hosts: [Errno 2] No such file"),
        ("", "known_hosts has no key of 127.0.0.1, port "),
        ("# only a comment\n", "known_hosts has no key of 127.0.0.1, port "),
        (
            "\n\n[127.0.0.1]:{port} ssh-ed25519 AAAAC3Nza\n",
            "known_hosts, line 3: it has no key that",
        ),
        ("[127.0.0.1]:{port} ssh-ed25519\n", "known_hosts, line 1: it has no key that can be read"),
        ("[127.0.0.1]:{port}\n", "known_hosts, line 1: it has no key that can be read"),
        ("127.0.0.1 unknown-type {blob}\n", "known_hosts, line 1: it has no key that can be read"),
        ("# x\n@revoked [127.0.0.1]:{port} {key}\n", "has no key of 127.0.0.1"),
        ("[127.0.0.1]:{port} {key}\n@revoked * {key}\n", "known_hosts, line 2: it revokes the key"),
        (
            "[127.0.0.1]:{port} {key}\n@revoked [127.*]:* {key}\n",
            "known_hosts, line 2: it revokes the key",
        ),
        ("@REVOKED [127.0.0.1]:{port} {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("@other [127.0.0.1]:{port} {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("[127.*]:*,![127.0.0.1]:{port} {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("[127.0.0.1]:{port} ssh-ed25519 AAAA{blob}\n", "known_hosts, line 1: it has no key"),
        ("[127.0.0.1]:{port} ssh-ed25519 {blob}?\n", "known_hosts, line 1: it has no key"),
        (
            "[127.0.0.1]:{port} {key}\n@revoked [127.0.0.1]:{port} {key}\n",
            "known_hosts, line 2: it revokes the key. Fetch",
        ),
        (
            "@revoked 127.0.0.1 {key}\n[127.0.0.1]:{port} {key}\n",
            "known_hosts, line 1: it revokes the key",
        ),
        ("@cert-authority [127.0.0.1]:{port} {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("garbage that is no key\n", "known_hosts has no key of 127.0.0.1"),
        ("\x00\x01\x02 \x03 \x04\n", "known_hosts has no key of 127.0.0.1"),
        ("sftp.clever.com {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("127.0.0 {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("127x0x0x1 {key}\n127.0.0.10 {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("[127.0.0.1]:22 {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("[127.0.0.1]:{port} {other}\n", "uploading to 127.0.0.1: Bad host key from server. Ask"),
        ("[127.0.0.1]:{port} {ecdsa}\n", "no acceptable host key"),
        ("[127.0.0.1]:{port} {other}\n[127.0.0.1]:{port} {key}\n", "Bad host key from server"),
    ],
)
def test_known_hosts_does_not_vouch(
    ready: Job, clever: Clever, lines: str | None, words: str
) -> None:
    if lines is None:
        ready.known_hosts.unlink()
    else:
        keys = {
            "key": clever.known_hosts_line().split(" ", 1)[1].strip(),
            "other": public("ssh-ed25519"),
            "ecdsa": public("ecdsa-sha2-nistp256"),
        }
        blob = keys["key"].split()[1]
        ready.known_hosts.write_text(lines.format(port=clever.port, blob=blob, **keys))
    ended = ready.run()
    check_failed(ready, ended, words, local=None)
    check_remote(clever, OLD)
    assert clever.passwords == []
    assert "attempt" not in ended.log


@pytest.mark.parametrize(
    ("key", "host"),
    [(0, ""), (1, ""), (2, ""), (0, "127.0.0.1"), (0, "sftp.clever.com,[127.0.0.1]:{port}")],
)
def test_known_hosts_vouches(
    tmp_path: Path, quiet: PowerSchool, job: Job, key: int, host: str
) -> None:
    kinds = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
    with Clever(tmp_path / "many", key_types=kinds) as clever:
        job.connect(quiet, clever)
        line = clever.known_hosts_line(key, host.format(port=clever.port))
        other = f"other.example.org {public('ssh-ed25519')}\n"
        job.known_hosts.write_text(f"# a comment\n\n{other}{line}")
        check_uploaded(job, job.run(), clever)


@pytest.mark.parametrize(
    "form",
    [
        "{line}\r\n",
        "\N{ZERO WIDTH NO-BREAK SPACE}{line}\n",
        "other.example.org ssh-ed25519 AAAAC3Nza\n{line}\n",
        "|1|x|y ssh-ed25519 AAAAC3Nza\n{line}\n",
        "\x00\udcff broken\n{line}\n",
        "@cert-authority *.example.org ssh-ed25519 AAAAC3Nza\n{line}\n",
        "@cert-authority [127.0.0.1]:{port} {other}\n{line}\n",
        "@revoked [127.0.0.1]:{port} {other}\n{line}\n",
        "\t {line} a comment\n",
        "*.clever.com,127.0.0.* {key}\n",
        "[127.0.0.?]:{port} {key}\n",
        "!sftp.clever.com,* {key}\n",
        # A line for this very port is better than one for the host.
        "127.0.0.1 {other}\n{line}\n",
    ],
)
def test_known_hosts_as_people_have_it(ready: Job, clever: Clever, form: str) -> None:
    line = clever.known_hosts_line().strip()
    key = line.split(" ", 1)[1]
    text = form.format(line=line, key=key, port=clever.port, other=public("ssh-ed25519"))
    ready.known_hosts.write_bytes(text.encode(errors="surrogateescape"))
    check_uploaded(ready, ready.run(), clever)


def test_an_address_without_a_port_is_port_22(ready: Job, clever: Clever) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = "127.0.0.1"
    ready.known_hosts.write_text(clever.known_hosts_line(host="[127.0.0.1]:2222"))
    ended = ready.run()
    check_failed(ready, ended, "known_hosts has no key of 127.0.0.1. Fetch", local=new_file(ready))


def test_the_case_of_a_host_name_does_not_matter(ready: Job, clever: Clever) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"LocalHost:{clever.port}"
    ready.known_hosts.write_text(clever.known_hosts_line(host=f"[LOCALHOST]:{clever.port}"))
    check_uploaded(ready, ready.run(), clever)


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is missing")
def test_a_hashed_known_hosts_vouches(ready: Job, clever: Clever) -> None:
    hash_names = ["ssh-keygen", "-q", "-H", "-f", str(ready.known_hosts)]
    subprocess.run(hash_names, check=True, capture_output=True)
    ready.known_hosts.with_suffix(".old").unlink()
    assert "127.0.0.1" not in ready.known_hosts.read_text()
    check_uploaded(ready, ready.run(), clever)


# --- Disk and permissions ---


def test_the_disk_is_full(ready: Job, clever: Clever) -> None:
    (ready.folder / "Sections.csv.tmp").symlink_to("/dev/full")
    words = "ERROR writing Sections.csv: [Errno 28] No space left on device. Make room on this"
    check_failed(ready, ready.run(), words)
    check_remote(clever, OLD)


def test_the_disk_is_full_for_the_log_as_well(ready: Job, clever: Clever) -> None:
    for path in (ready.log, ready.folder / "Sections.csv.tmp"):
        path.symlink_to("/dev/full")
    process = ready.start()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert stderr.startswith("ERROR writing Sections.csv: [Errno 28] No space left on device")
    assert stderr.count("\n") == 1
    check_remote(clever, OLD)


def test_the_folder_is_not_writable(ready: Job, clever: Clever) -> None:
    ready.log.touch()
    (ready.folder / "clever_sections.lock").touch()
    ready.folder.chmod(0o555)
    ended = ready.end(ready.start(before=AS_A_USER))
    words = "ERROR writing Sections.csv: [Errno 13] Permission denied: '"
    check_failed(ready, ended, words, "Sections.csv.tmp'" + ADVICE_ON_PERMISSION)
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("name", "doing"),
    [
        ("clever_sections.log", "opening the log"),
        ("clever_sections.lock", "locking clever_sections.lock"),
        ("Sections.csv.tmp", "writing Sections.csv"),
    ],
)
def test_a_file_that_a_run_as_root_has_left(
    ready: Job, clever: Clever, name: str, doing: str
) -> None:
    path = ready.folder / name
    path.touch()
    path.chmod(0o444)
    process = ready.start(before=AS_A_USER)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert stderr.startswith(f"ERROR {doing}: [Errno 13] Permission denied: '{path}'")
    assert ADVICE_ON_PERMISSION in stderr
    assert stderr.count("\n") == 1
    check_remote(clever, OLD)


def test_copies_that_a_run_as_root_has_left_are_replaced(ready: Job, clever: Clever) -> None:
    assert ready.run().status == 0
    for name in ("Sections.csv", "Sections.uploaded.csv"):
        (ready.folder / name).chmod(0o444)
    ended = ready.end(ready.start(before=AS_A_USER))
    check_uploaded(ready, ended, clever)


def test_a_copy_that_may_not_be_read_stops_the_upload(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """Without it nobody can tell what Clever would lose."""
    assert ready.run().status == 0
    before = ready.uploaded.read_bytes()
    ready.uploaded.chmod(0o000)
    district.change(quiet.database, "DELETE FROM sectionteacher")
    ended = ready.end(ready.start(before=AS_A_USER))
    assert ended.status == 1
    assert "ERROR reading Sections.uploaded.csv: [Errno 13] Permission denied" in ended.stderr
    assert ADVICE_ON_PERMISSION in ended.stderr
    check_remote(clever, before)


def test_the_log_is_not_writable(ready: Job, clever: Clever) -> None:
    ready.log.mkdir()
    process = ready.start()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "opening the log: [Errno 21] Is a directory" in stderr
    assert ". Remove or rename that folder\n" in stderr
    check_remote(clever, OLD)


# --- Standard output and error ---


@pytest.mark.parametrize("options", [[], ["-v"]])
@pytest.mark.parametrize("streams", ["closed", "full"])
@pytest.mark.parametrize("fails", [False, True])
def test_streams_that_are_closed_or_full(
    ready: Job, clever: Clever, streams: str, options: list[str], fails: bool
) -> None:
    """The job does its work, the log has it all, the exit status is right."""
    if fails:
        ready.environment["POWERSCHOOL_DB_PASSWORD"] = "Wrong-Oak-00"
    redirection = {"closed": ">&- 2>&-", "full": ">/dev/full 2>/dev/full"}[streams]
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    ended = ready.end(ready.start(*options, before=shell))
    if fails:
        assert ended.status == 1
        assert "ERROR connecting to PowerSchool: ORA-01017" in ended.log
        check_remote(clever, OLD)
    else:
        check_uploaded(ready, ended, clever)
        assert "(first upload), uploaded, " in ended.log


@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("--wrong", 2)])
def test_usage_on_streams_that_are_full(ready: Job, option: str, status: int) -> None:
    shell = ["sh", "-c", 'exec "$@" >/dev/full 2>/dev/full', "sh"]
    assert ready.end(ready.start(option, before=shell)).status == status


def test_a_log_line_that_cannot_be_encoded(ready: Job, clever: Clever, tmp_path: Path) -> None:
    """The driver's message has the name of a folder in it that is not UTF-8."""
    ready.environment["TNS_ADMIN"] = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    ready.environment["POWERSCHOOL_PROD_DB"] = "no_such_alias"
    ended = ready.run()
    assert ended.status == 1
    assert "ERROR connecting to PowerSchool: DPY-4026: file '" in ended.log
    assert "/\\udcff/tnsnames.ora'" in ended.log
    check_remote(clever, OLD)


# --- Interruption ---


SIGNALS = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
INTERRUPTED = "ERROR interrupted: Clever has the old file or the whole new one\n"


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("wrong", [BUSY, HANG])
def test_interrupted_while_querying(
    ready: Job, quiet: PowerSchool, clever: Clever, number: int, status: int, wrong: str
) -> None:
    ready.set(QUERY_TIMEOUT_SECONDS=60)
    quiet.fault = at("FROM sections", wrong)
    process = ready.start()
    wait_for(lambda: quiet.steps and "FROM sections" in quiet.steps[-1])
    assert (ready.folder / "Sections.csv.tmp").exists()
    process.send_signal(number)
    ended = ready.end(process, timeout=5)
    assert (ended.status, ended.stderr) == (status, INTERRUPTED)
    assert INTERRUPTED in ended.log
    assert ended.files == {"Sections.csv", "clever_sections.log", "clever_sections.lock"}
    assert ready.output.read_bytes() == OLD
    check_clean(ready, ended)
    check_remote(clever, OLD)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_interrupted_while_connecting(
    ready: Job, quiet: PowerSchool, clever: Clever, number: int, status: int
) -> None:
    ready.set(CONNECT_TIMEOUT_SECONDS=60)
    quiet.fault = at("LOG IN", HANG)
    process = ready.start()
    wait_for(lambda: "LOG IN" in quiet.steps)
    process.send_signal(number)
    ended = ready.end(process, timeout=5)
    assert (ended.status, ended.stderr) == (status, INTERRUPTED)
    check_clean(ready, ended)
    check_remote(clever, OLD)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("where", ["LOG IN", "WRITE", "CLOSE"])
def test_interrupted_while_uploading(
    large: Job, clever: Clever, where: str, number: int, status: int
) -> None:
    large.set(CONNECT_TIMEOUT_SECONDS=60)
    clever.fault = at(where, HANG)
    process = large.start()
    wait_for(lambda: any(where in step for step in clever.steps))
    process.send_signal(number)
    ended = large.end(process, timeout=5)
    assert (ended.status, ended.stderr) == (status, INTERRUPTED)
    assert not large.uploaded.exists()
    check_clean(large, ended)
    check_remote(clever, OLD)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_interrupted_between_tries(ready: Job, clever: Clever, number: int, status: int) -> None:
    ready.set(RETRY_DELAY_SECONDS=60)
    clever.fault = at("WRITE", "No space left on device")
    process = ready.start()
    wait_for(lambda: ready.log.exists() and "attempt 1: uploading to" in ready.log.read_text())
    process.send_signal(number)
    ended = ready.end(process, timeout=5)
    assert (ended.status, ended.stderr) == (status, INTERRUPTED)
    check_clean(ready, ended)
    check_remote(clever, OLD)


def test_nohup_is_respected(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    quiet.fault = at("FROM schools", BUSY, times=1)
    ready.set(QUERY_TIMEOUT_SECONDS=2)
    process = ready.start(before=["nohup"])
    wait_for(lambda: any("FROM schools" in step for step in quiet.steps))
    process.send_signal(signal.SIGHUP)
    ended = ready.end(process, timeout=10)
    assert ended.status == 1
    assert "ERROR reading the schools: DPY-4024" in ended.log


# --- Two runs at once ---


def test_two_runs_at_once(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    ready.set(QUERY_TIMEOUT_SECONDS=60)
    quiet.fault = at("FROM schools", BUSY, times=1)
    first = ready.start()
    wait_for(lambda: any("FROM schools" in step for step in quiet.steps))
    # Also after an upgrade or an editor has replaced the script.
    shutil.copy(ready.script, ready.folder / "new")
    (ready.folder / "new").replace(ready.script)
    second = ready.end(ready.start())
    assert second.status == 1
    assert second.stderr == "ERROR another run is at work. Wait for its end\n"
    assert "Sections.csv.tmp" in second.files  # it is the first one's
    first.kill()  # crashes, and leaves what it was writing
    first.communicate()
    check_uploaded(ready, ready.run(), clever)


def test_an_interrupted_second_run_removes_nothing(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """Held up before it asks for the lock, by a log that nobody reads."""
    temporary = ready.folder / "Sections.csv.tmp"
    temporary.write_text("the first run's")
    os.mkfifo(ready.log)
    process = ready.start()
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        process.kill()
        pytest.skip("only /proc tells when the job is ready for signals")

    def is_ready() -> bool:
        caught = int(status.read_text().split("SigCgt:")[1].split()[0], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    wait_for(is_ready)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    process.communicate()
    assert temporary.read_text() == "the first run's"


# --- Packages and Pythons ---


def test_packages_are_missing(ready: Job) -> None:
    run = subprocess.run(
        [sys.executable, "-S", ready.script], env={}, capture_output=True, text=True, timeout=20
    )
    assert run.returncode == 1
    assert run.stderr == (
        "ERROR No module named 'oracledb'. Start the job with .venv/bin/python; if that says the "
        "same, set it up again in this script's folder: "
        "python3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt\n"
    )


def old_pythons() -> list[str]:
    """The Pythons older than 3.10 that are on this machine, also those of pyenv beside ours."""
    found = [shutil.which(f"python3.{minor}") for minor in range(6, 10)]
    with suppress(OSError):
        beside = Path(sys.base_prefix).parent.glob("3.[6-9].*/bin/python3")
        found += [str(python) for python in beside]
    return [python for python in found if python and works(python)]


def works(python: str) -> bool:
    """Whether it is one that can be started, and no empty shim."""
    try:
        return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
    except OSError:
        return False


def test_an_older_python_says_which_is_needed(ready: Job) -> None:
    old = old_pythons()
    if not old:
        pytest.skip("no Python older than 3.10 is here")
    for python in old:
        run = subprocess.run([python, ready.script], capture_output=True, text=True, timeout=20)
        assert run.returncode == 1
        assert run.stderr.startswith("ERROR this needs Python 3.10 or newer, and this is 3.")
        assert run.stderr.count("\n") == 1


def test_files_of_a_good_run(ready: Job) -> None:
    assert ready.run().files == NEW_FILES
    new_file(ready)
