"""This machine, fault by fault: variables, known_hosts, files, signals, closed streams."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import date
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
from conftest import Inside
from faults import BUSY, HANG, at
from job import Job
from powerschool import PowerSchool

import clever_sections

# Root may write everywhere, unless it gives up the right to.
WITHOUT_PRIVILEGE = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
]
AS_A_USER = WITHOUT_PRIVILEGE if os.geteuid() == 0 else []
needs_a_user = pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="setpriv is missing"
)
ADVICE_ON_PERMISSION = (
    ". Give it, and all that lies in its folder, to the user who runs the job, with chown\n"
)
# So that a busy machine, on which a step takes long, is not taken for a silent server.
PATIENT = {"CONNECT_TIMEOUT_SECONDS": 60, "QUERY_TIMEOUT_SECONDS": 60}


@pytest.fixture
def ready(ready: Job) -> Job:
    """The connected job, with time."""
    return ready.set(**PATIENT)


def prepare(job: Job, python: str) -> None:
    """Have the job's Python run this before the script, as if the machine were like that."""
    folder = job.folder.parent / "prepared"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(python)
    job.environment["PYTHONPATH"] = str(folder)


def shell(command: str) -> list[str]:
    """A shell that does something before it becomes the job."""
    return ["sh", "-c", f'{command} exec "$@"', "sh"]


# --- Variables ---


def test_missing_variables(ready: Job, clever: Clever) -> None:
    ready.environment["POWERSCHOOL_PROD_DB"] = ""
    ready.environment["CLEVER_SFTP_USERNAME"] = " "
    del ready.environment["CLEVER_SFTP_ADDRESS"]
    ended = ready.run()
    names = "POWERSCHOOL_PROD_DB, CLEVER_SFTP_USERNAME, CLEVER_SFTP_ADDRESS"
    check_failed(ready, ended, f"ERROR missing or empty variables: {names}\n", status=2)
    check_remote(clever, OLD)


def test_variables_from_a_windows_editor(ready: Job, clever: Clever) -> None:
    for name in ready.environment:
        ready.environment[name] = f" {ready.environment[name]}\t\r\n"
    check_uploaded(ready, ready.run(), clever)


# Languages in which Python itself would read the variables in three ways.
LANGUAGES = [
    {"LC_ALL": "C.UTF-8"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "en_US.ISO-8859-1"},
]


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the language of the last of these, which few machines have."""
    folder = tmp_path_factory.mktemp("locales")
    with suppress(OSError):
        name = str(folder / "en_US.ISO-8859-1")
        make = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", name]
        subprocess.run(make, capture_output=True)
    return folder


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language["LC_ALL"])
def test_a_password_with_an_umlaut_in_any_language(
    ready: Job, quiet: PowerSchool, clever: Clever, locales: Path, language: dict[str, str]
) -> None:
    """It is sent as it was written; a wrong one could lock the account."""
    if "ISO" in language["LC_ALL"] and not any(locales.iterdir()):
        pytest.skip("localedef, or its descriptions of languages, are missing: install locales")
    quiet.password = "Gr\xf6\xdfe-Oak-17"
    clever.password = "\xdcmlaut-Lake-93"
    ready.connect(quiet, clever)
    ready.environment |= language | {"LOCPATH": str(locales)}
    check_uploaded(ready, ready.run(), clever)
    assert quiet.log_ins == ["Gr\xf6\xdfe-Oak-17"]
    assert set(clever.passwords) == {"\xdcmlaut-Lake-93"}


def test_a_variable_in_another_encoding(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    ready.environment["CLEVER_SFTP_USERNAME"] = os.fsdecode(b"Caf\xe9-Oak-17")
    ended = ready.run()
    words = "ERROR CLEVER_SFTP_USERNAME is not in UTF-8. Save the file that sets it as UTF-8\n"
    check_failed(ready, ended, words, status=2)
    assert (quiet.steps, clever.steps) == ([], [])


@pytest.mark.parametrize(
    "name", ["POWERSCHOOL_READ_USER", "POWERSCHOOL_DB_PASSWORD", "CLEVER_SFTP_PASSWORD"]
)
def test_no_variable_may_be_in_another_encoding(inside: Inside, ready: Job, name: str) -> None:
    ready.environment[name] = os.fsdecode(b"Caf\xe9-Oak-17")
    inside(ready)
    with pytest.raises(clever_sections.Failure, match=f"^{name} is not in UTF-8. ") as caught:
        clever_sections.check_variables(dry_run=False)
    assert caught.value.status == 2


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
        "127.0.0.1:ssh",
        "sftp://",
        "sftp clever com",
        "[::1",
    ],
)
def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What it is, is not shown: it may hold a password."""
    filled = address.format(address="127.0.0.1:2222", password="Quartz-Lake-93")
    for name, value in {"ADDRESS": filled, "USERNAME": "district-0042"}.items():
        monkeypatch.setattr(clever_sections, f"CLEVER_SFTP_{name}", value)
    monkeypatch.setattr(clever_sections, "CLEVER_SFTP_PASSWORD", "Quartz-Lake-93")
    with pytest.raises(clever_sections.Failure, match="is not an address. Set it to") as caught:
        clever_sections.clever_server()
    assert caught.value.status == 2
    assert "district" not in str(caught.value)


def test_an_address_with_a_password_ends_the_job(ready: Job, clever: Clever) -> None:
    address = f"sftp://district-0042:{clever.password}@{clever.address}"
    ready.environment["CLEVER_SFTP_ADDRESS"] = address
    ended = ready.run()
    words = "ERROR CLEVER_SFTP_ADDRESS is not an address. Set it to sftp.clever.com or to host:port"
    check_failed(ready, ended, words, status=2)
    assert "district-0042" not in ended.stderr + ended.log
    check_remote(clever, OLD)
    assert clever.passwords == []


def test_an_ipv6_address(ready: Job, clever: Clever) -> None:
    """In brackets, as everywhere; here one that is the address of the stand-in."""
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"[::ffff:127.0.0.1]:{clever.port}"
    host = f"[::ffff:127.0.0.1]:{clever.port}"
    ready.known_hosts.write_text(clever.known_hosts_line(host=host))
    check_uploaded(ready, ready.run(), clever)


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("sftp.clever.com", ("sftp.clever.com", 22)),
        ("SFTP.Clever.com:2222", ("sftp.clever.com", 2222)),
        ("sftp://127.0.0.1:2222", ("127.0.0.1", 2222)),
        ("sftp://127.0.0.1:2222/", ("127.0.0.1", 2222)),
        ("SFTP://127.0.0.1", ("127.0.0.1", 22)),
        ("[::1]:2222", ("::1", 2222)),
        ("sftp://[::1]/", ("::1", 22)),
    ],
)
def test_an_address_and_its_port(
    monkeypatch: pytest.MonkeyPatch, address: str, server: tuple[str, int]
) -> None:
    monkeypatch.setattr(clever_sections, "CLEVER_SFTP_ADDRESS", address)
    assert clever_sections.clever_server() == server


def test_an_address_with_a_scheme(ready: Job, clever: Clever) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"SFTP://127.0.0.1:{clever.port}/"
    check_uploaded(ready, ready.run(), clever)


def test_a_bug_is_one_line_and_exit_status_1(ready: Job, clever: Clever) -> None:
    prepare(ready, "import csv; csv.writer = None")
    ended = ready.run()
    check_failed(
        ready, ended, "ERROR a bug in this script: TypeError ", "clever_sections.py, line "
    )
    check_remote(clever, OLD)


# --- The command line ---


def test_a_wrong_command_line(ready: Job, quiet: PowerSchool) -> None:
    ended = ready.run("--date", "yesterday")
    assert ended.status == 2
    assert "yesterday" in ended.stderr
    assert ended.files == {"Sections.csv"}
    assert quiet.round_trips == 0
    check_clean(ready, ended)


@pytest.mark.parametrize(
    "options",
    [["--date", "2026-02-30"], ["--date", "10000-01-01"], ["--dryrun"], ["--dry-run", "x"]],
)
def test_options_that_are_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["clever_sections.py", *options])
    with pytest.raises(SystemExit) as caught:
        clever_sections.parse_arguments()
    assert caught.value.code == 2
    assert options[-1] in capsys.readouterr().err


@pytest.mark.parametrize("day", ["1990-01-01", "2199-12-31", "2028-02-29"])
def test_any_day_of_a_school_year(inside: Inside, ready: Job, day: str) -> None:
    inside(ready)
    district = clever_sections.read_powerschool(date.fromisoformat(day))
    assert (len(district.schools), district.in_session) == (2, set())


# --- known_hosts ---


def public(kind: str) -> str:
    return asyncssh.generate_private_key(kind).export_public_key().decode().strip()


def test_known_hosts_is_missing(ready: Job, clever: Clever) -> None:
    ready.known_hosts.unlink()
    ended = ready.run()
    words = ("reading known_hosts: [Errno 2] No such file", "as the README says")
    check_failed(ready, ended, *words, local=new_file(ready))
    check_remote(clever, OLD)
    assert clever.passwords == []
    assert "attempt" not in ended.log


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "no key of 127.0.0.1, port "),
        ("[127.0.0.1]:{port} ssh-ed25519 AAAAC3Nza\n", "known_hosts"),
        ("other.example.org ssh-ed25519 AAAAC3Nza\n[127.0.0.1]:{port} {key}\n", "known_hosts"),
        ("\x00\x01\udcff \x03 \x04\n", "known_hosts"),
        ("127x0x0x1 {key}\n127.0.0.10 {key}\n", "no key of 127.0.0.1"),
        ("[127.0.0.1]:22 {key}\n", "no key of 127.0.0.1"),
        ("[127.0.0.1]:{port} {other}\n", "Bad host key from server. Ask"),
        ("[127.0.0.1]:{port} {ecdsa}\n", "no acceptable host key"),
        ("[127.0.0.1]:{port} {other}\n[127.0.0.1]:{port} {key}\n", "Bad host key from server"),
    ],
)
def test_known_hosts_does_not_vouch(
    inside: Inside, ready: Job, clever: Clever, lines: str, words: str
) -> None:
    """Nor does a key for another host or port, or a second one. No password is sent."""
    keys = {
        "key": clever.known_hosts_line().split(" ", 1)[1].strip(),
        "other": public("ssh-ed25519"),
        "ecdsa": public("ecdsa-sha2-nistp256"),
    }
    text = lines.format(port=clever.port, **keys)
    ready.known_hosts.write_bytes(text.encode(errors="surrogateescape"))
    inside(ready)
    with pytest.raises(clever_sections.Failure) as caught:
        clever_sections.Clever("looking")
    assert words in str(caught.value)
    assert "as the README says" in str(caught.value)
    assert caught.value.is_final
    assert clever.passwords == []


def check_vouched(inside: Inside, job: Job, clever: Clever) -> None:
    """With the known_hosts that there is, the job can log in."""
    inside(job)
    with clever_sections.Clever("looking") as connection:
        connection.list_folder()
    assert clever.passwords == [clever.password]


@pytest.mark.parametrize(
    ("key", "host"),
    [(0, ""), (1, ""), (2, ""), (0, "127.0.0.1"), (0, "sftp.clever.com,[127.0.0.1]:{port}")],
)
def test_known_hosts_vouches(tmp_path: Path, inside: Inside, job: Job, key: int, host: str) -> None:
    """With a key of each usual type, by the host's name, with or without its port."""
    kinds = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
    with Clever(tmp_path / "many", key_types=kinds) as clever:
        job.connect(clever=clever)
        line = clever.known_hosts_line(key, host.format(port=clever.port))
        other = f"other.example.org {public('ssh-ed25519')}\n"
        job.known_hosts.write_text(f"# a comment\n\n{other}{line}")
        check_vouched(inside, job, clever)


@pytest.mark.parametrize(
    "form",
    [
        "{line}\r\n",
        "\t {line} a comment\n",
        "other.example.org unknown-type AAAAC3NzaC1lZDI1NTE5\n{line}\n",
        # A line for this very port is better than one for the host.
        "127.0.0.1 {other}\n{line}\n",
    ],
)
def test_known_hosts_as_people_have_it(inside: Inside, job: Job, clever: Clever, form: str) -> None:
    line = clever.known_hosts_line().strip()
    job.connect(clever=clever)
    job.known_hosts.write_text(form.format(line=line, other=public("ssh-ed25519")))
    check_vouched(inside, job, clever)


def test_the_key_of_another_port_does_not_vouch_for_port_22(
    inside: Inside, job: Job, clever: Clever
) -> None:
    job.connect(clever=clever)
    job.known_hosts.write_text(clever.known_hosts_line(host="[127.0.0.1]:2222"))
    inside(job)
    clever_sections.only_the_known_key("127.0.0.1", 2222)
    with pytest.raises(clever_sections.Failure, match="it has no key of 127.0.0.1, port 22. "):
        clever_sections.only_the_known_key("127.0.0.1", 22)


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is missing")
def test_a_hashed_known_hosts_vouches(inside: Inside, ready: Job, clever: Clever) -> None:
    hash_names = ["ssh-keygen", "-q", "-H", "-f", str(ready.known_hosts)]
    subprocess.run(hash_names, check=True, capture_output=True)
    ready.known_hosts.with_suffix(".old").unlink()
    assert "127.0.0.1" not in ready.known_hosts.read_text()
    check_vouched(inside, ready, clever)


# --- Disk and permissions ---


def test_the_disk_is_full(ready: Job, clever: Clever) -> None:
    """A limit on the size of a file does what a full disk does. The log is not written either."""
    prepare(ready, "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (500, 500))")
    process = ready.start()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert stderr.startswith("ERROR writing Sections.csv: [Errno 27] File too large")
    assert stderr.count("\n") == 1
    assert ready.output.read_bytes() == OLD
    assert not list(ready.folder.glob("*.tmp"))
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("words", "what_to_do"),
    [
        ("[Errno 28] No space left on device: 'Sections.csv'", "Make room on this machine's disk"),
        ("[Errno 122] Disk quota exceeded: 'Sections.csv'", "Make room on this machine's disk"),
        (
            "[Errno 30] Read-only file system: 'Sections.csv'",
            "Set CLEVER_SECTIONS_FOLDER to a folder that can be written",
        ),
        (
            "[Errno 2] No such file or directory: 'Sections.csv'",
            "Check CLEVER_SECTIONS_FOLDER: the folder must be there",
        ),
    ],
)
def test_what_to_do_about_the_disk(words: str, what_to_do: str) -> None:
    said, is_final = clever_sections.advice(words, clever_sections.HERE)
    assert (said, is_final) == (what_to_do, True)


@needs_a_user
def test_the_folder_is_not_writable(ready: Job, clever: Clever) -> None:
    ready.log.touch()
    (ready.folder / "clever_sections.lock").touch()
    ready.folder.chmod(0o555)
    ended = ready.end(ready.start(before=AS_A_USER))
    words = "ERROR writing Sections.csv: [Errno 13] Permission denied: '"
    check_failed(ready, ended, words, ADVICE_ON_PERMISSION, local=OLD)
    check_remote(clever, OLD)


@needs_a_user
@pytest.mark.parametrize(
    ("name", "doing"),
    [
        ("clever_sections.log", "opening the log"),
        ("clever_sections.lock", "locking clever_sections.lock"),
    ],
)
def test_a_file_that_a_run_as_root_has_left(
    ready: Job, clever: Clever, name: str, doing: str
) -> None:
    path = ready.folder / name
    path.touch()
    path.chmod(0o444)
    process = ready.start(before=AS_A_USER)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert stderr.startswith(f"ERROR {doing}: [Errno 13] Permission denied: '{path}'")
    assert ADVICE_ON_PERMISSION in stderr
    assert stderr.count("\n") == 1
    check_remote(clever, OLD)


@needs_a_user
def test_copies_that_a_run_as_root_has_left_are_replaced(ready: Job, clever: Clever) -> None:
    assert ready.run().status == 0
    for name in ("Sections.csv", "Sections.uploaded.csv"):
        (ready.folder / name).chmod(0o444)
    ended = ready.end(ready.start(before=AS_A_USER))
    check_uploaded(ready, ended, clever)


@needs_a_user
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
    check_remote(clever, OLD)


def modes(folder: Path) -> dict[str, str]:
    """What is in a folder, and who may read and write it."""
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}


def test_all_that_is_written_is_for_its_own_user(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """Whatever the umask, and also what an older version has left for everybody to read."""
    ready.log.touch()
    for path in (ready.log, ready.output):
        path.chmod(0o644)
    for _ in range(2):
        district.change(quiet.database, "UPDATE sections SET section_number = section_number + 1")
        ended = ready.end(ready.start(before=shell("umask 0;")))
        assert (ended.status, "uploaded" in ended.log) == (0, True)
    own = {name: mode for name, mode in modes(ready.folder).items() if name in ended.files}
    assert own.keys() == NEW_FILES | {"Sections.changes.csv", "Sections.previous.csv"}
    assert set(own.values()) == {"0o600"}


def test_a_log_that_has_grown_is_for_its_own_user_as_well(ready: Job, clever: Clever) -> None:
    ready.log.write_text("x" * 999_990 + "\n")
    ready.log.chmod(0o644)
    ended = ready.end(ready.start(before=shell("umask 0;")))
    assert ended.status == 0
    logs = {name: mode for name, mode in modes(ready.folder).items() if ".log" in name}
    assert logs == {"clever_sections.log": "0o600", "clever_sections.log.1": "0o600"}


def test_nothing_that_lies_under_a_temporary_name_is_followed(ready: Job, clever: Clever) -> None:
    """Neither a symlink nor a fifo."""
    theirs = ready.folder.parent / "theirs"
    theirs.write_text("theirs")
    (ready.folder / "Sections.csv.tmp").symlink_to(theirs)
    os.mkfifo(ready.folder / "Sections.uploaded.csv.tmp")
    check_uploaded(ready, ready.run(), clever)
    assert theirs.read_text() == "theirs"


def test_what_a_killed_run_has_left_is_tidied_up(ready: Job, clever: Clever) -> None:
    """Each run writes under a name of its own, and has removed what the last one left."""
    prepare(ready, "import os; os.replace = lambda *names: os.kill(os.getpid(), 9)")
    leftovers = []
    for _ in range(2):
        killed = ready.run()
        assert killed.status == -signal.SIGKILL
        [leftover] = [name for name in killed.files if name.endswith(".tmp")]
        assert modes(ready.folder)[leftover] == "0o600"
        leftovers.append(leftover)
    assert leftovers[0] != leftovers[1]
    assert ready.output.read_bytes() == OLD
    del ready.environment["PYTHONPATH"]
    check_uploaded(ready, ready.run(), clever)


# --- The folder ---


def test_everything_lies_in_the_folder_that_a_variable_names(ready: Job, clever: Clever) -> None:
    """Also known_hosts; beside the script there is nothing then."""
    folder = ready.folder.parent / "data"
    folder.mkdir()
    for path in (ready.known_hosts, ready.output):
        path.replace(folder / path.name)
    ready.environment["CLEVER_SECTIONS_FOLDER"] = str(folder)
    ended = ready.run()
    assert (ended.status, ended.stderr) == (0, "")
    assert os.listdir(ready.folder) == ["clever_sections.py"]
    others = {"Sections.changes.csv", "Sections.previous.csv", "known_hosts"}
    assert set(os.listdir(folder)) == NEW_FILES | others
    content = (folder / "Sections.csv").read_bytes()
    assert content.count(b"\n") == 21
    assert (folder / "Sections.uploaded.csv").read_bytes() == content
    check_remote(clever, content)


def test_a_folder_that_is_not_there(ready: Job, quiet: PowerSchool) -> None:
    ready.environment["CLEVER_SECTIONS_FOLDER"] = str(ready.folder / "missing")
    ended = ready.run()
    assert ended.status == 1
    assert ended.stderr.startswith("ERROR opening the log: [Errno 2] No such file or directory")
    assert "Check CLEVER_SECTIONS_FOLDER: the folder must be there\n" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert (ended.files, quiet.steps) == ({"Sections.csv"}, [])


# --- Standard output and error ---


@pytest.mark.parametrize(("options", "fails"), [([], True), (["-v"], False)])
def test_streams_that_are_closed(
    ready: Job, clever: Clever, options: list[str], fails: bool
) -> None:
    """The job does its work, the log has it all, the exit status is right."""
    if fails:
        ready.environment["POWERSCHOOL_DB_PASSWORD"] = "Wrong-Oak-00"
    ended = ready.end(ready.start(*options, before=shell("exec >&- 2>&-;")))
    if fails:
        assert ended.status == 1
        assert "ERROR connecting to PowerSchool: ORA-01017" in ended.log
        check_remote(clever, OLD)
    else:
        check_uploaded(ready, ended, clever)


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


def blocking(*numbers: signal.Signals) -> list[str]:
    """A command that blocks these signals before it becomes the job, which inherits that."""
    blocked = [int(number) for number in numbers]
    block = f"signal.pthread_sigmask(signal.SIG_BLOCK, {blocked})"
    start = "os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", f"import os, signal, sys; {block}; {start}"]


def interrupt(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send it, and once more if it came just before the driver began to wait for an answer.

    Python then notices it only after that, as for any program that waits in a library.
    """
    process.send_signal(number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    process.send_signal(number)  # does nothing if it has ended


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_interrupted_while_querying(
    ready: Job,
    quiet: PowerSchool,
    clever: Clever,
    number: signal.Signals,
    status: int,
) -> None:
    """Though whoever started the job has blocked the signal; below, nobody has."""
    quiet.fault = at("FROM sections", BUSY)
    process = ready.start(before=blocking(number))
    wait_for(lambda: quiet.steps and "FROM sections" in quiet.steps[-1])
    interrupt(process, number)
    ended = ready.end(process)
    assert (ended.status, ended.stderr) == (status, INTERRUPTED)
    assert INTERRUPTED in ended.log
    assert ended.files == {"Sections.csv", "clever_sections.log", "clever_sections.lock"}
    assert ready.output.read_bytes() == OLD
    check_clean(ready, ended)
    check_remote(clever, OLD)


@pytest.mark.parametrize("step", ["LOG IN", "FROM teachers"])
def test_interrupted_while_the_database_is_silent(
    ready: Job, quiet: PowerSchool, clever: Clever, step: str
) -> None:
    quiet.fault = at(step, HANG)
    process = ready.start()
    wait_for(lambda: quiet.steps and step in quiet.steps[-1])
    interrupt(process, signal.SIGTERM)
    ended = ready.end(process)
    assert (ended.status, ended.stderr) == (143, INTERRUPTED)
    check_clean(ready, ended)
    check_remote(clever, OLD)


@pytest.mark.parametrize("step", ["LOG IN", "WRITE", "CLOSE"])
def test_interrupted_while_clever_is_silent(large: Job, clever: Clever, step: str) -> None:
    large.set(**PATIENT)
    clever.fault = at(step, HANG)
    process = large.start()
    wait_for(lambda: any(step in reached for reached in clever.steps))
    interrupt(process, signal.SIGTERM)
    ended = large.end(process)
    assert (ended.status, ended.stderr) == (143, INTERRUPTED)
    assert not large.uploaded.exists()
    check_clean(large, ended)
    check_remote(clever, OLD)


def test_interrupted_between_tries(ready: Job, clever: Clever) -> None:
    ready.set(RETRY_DELAY_SECONDS=60)
    clever.fault = at("WRITE", "No space left on device")
    process = ready.start()
    wait_for(lambda: ready.log.exists() and "attempt 1: uploading to" in ready.log.read_text())
    interrupt(process, signal.SIGTERM)
    ended = ready.end(process)
    assert (ended.status, ended.stderr) == (143, INTERRUPTED)
    check_clean(ready, ended)
    check_remote(clever, OLD)


def test_time_limits_work_for_a_parent_that_blocks_their_signal(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    quiet.fault = at("LOG IN", HANG)
    ready.set(CONNECT_TIMEOUT_SECONDS=1, CONNECT_ATTEMPTS=1)
    ended = ready.end(ready.start(before=blocking(signal.SIGALRM)))
    check_failed(ready, ended, "connecting to PowerSchool: no end within 1 seconds")
    check_remote(clever, OLD)


def test_nohup_is_respected(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    """The signal comes while the job waits for an answer, which then comes."""

    def fault(step: str) -> str | None:
        if "FROM schools" in step:
            process.send_signal(signal.SIGHUP)
        return None

    quiet.fault = fault
    process = ready.start(before=["nohup"])
    ended = ready.end(process)
    assert ended.status == 0
    assert ", uploaded, " in ended.log


# --- Two runs at once ---


def test_two_runs_at_once(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    """The second one says which one is at work, also after that it was killed."""
    quiet.fault = at("FROM schools", BUSY, times=1)
    first = ready.start()
    wait_for(lambda: any("FROM schools" in step for step in quiet.steps))
    # Also after an upgrade or an editor has replaced the script.
    shutil.copy(ready.script, ready.folder / "new")
    (ready.folder / "new").replace(ready.script)
    second = ready.end(ready.start())
    held = rf"ERROR another run \(process {first.pid}, since \d\d:\d\d .*\) is at work\. Wait"
    assert re.match(held, second.stderr)
    assert (second.status, second.stderr.count("\n")) == (1, 1)
    assert "kill" in second.stderr
    first.kill()
    first.communicate()
    check_uploaded(ready, ready.run(), clever)


def test_a_held_lock_may_be_answered_with_eacces(ready: Job, clever: Clever) -> None:
    """As fcntl's manual page has it."""
    refuse = "raise PermissionError(13, 'Permission denied')"
    prepare(ready, f"import fcntl\ndef flock(*arguments):\n    {refuse}\nfcntl.flock = flock\n")
    (ready.folder / "clever_sections.lock").write_text("process 4711, since 02:00 on 2026-11-24\n")
    words = "another run (process 4711, since 02:00 on 2026-11-24) is at work"
    check_failed(ready, ready.run(), words)
    check_remote(clever, OLD)


@pytest.mark.parametrize("where", ["FROM sections", "STAT Sections.csv.tmp", "WRITE", "RENAME"])
def test_two_runs_although_both_hold_the_lock(
    ready: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes, where: str
) -> None:
    """Somebody has deleted it. The first run is stopped at a step until the second has ended."""
    first: subprocess.Popen[str] | None = None
    reached: list[str] = []

    def stop_the_first(step: str) -> str | None:
        if where in step and not reached:
            assert first
            reached.append(step)
            first.send_signal(signal.SIGSTOP)
        return None

    quiet.fault = clever.fault = stop_the_first
    first = ready.start()
    wait_for(lambda: reached)
    (ready.folder / "clever_sections.lock").unlink()
    district.change(quiet.database, "UPDATE sections SET section_number = 'new' WHERE id <= 5")
    second = ready.end(ready.start())
    assert (second.status, second.stderr) == (0, "")
    newer = ready.uploaded.read_bytes()
    assert newer.count(b",new,") == 5
    assert (clever.folder / "Sections.csv").read_bytes() == newer
    first.send_signal(signal.SIGCONT)
    ended = ready.end(first)
    assert ended.status in (0, 1)
    assert (clever.folder / "Sections.csv").read_bytes() in (first_upload, newer)
    assert ready.output.read_bytes() in (first_upload, newer)
    assert ready.uploaded.read_bytes() in (first_upload, newer)
    check_clean(ready, ended)


# --- Packages and Pythons ---


def test_packages_are_missing(ready: Job) -> None:
    run = subprocess.run(
        [sys.executable, "-S", ready.script], env={}, capture_output=True, text=True, timeout=20
    )
    assert run.returncode == 1
    assert run.stderr == (
        "ERROR No module named 'oracledb'. Start the job with .venv/bin/python, or set that up "
        "again: python3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt\n"
    )


@pytest.mark.parametrize("name", ["oracledb", "paramiko", "pysftp"])
def test_a_package_is_broken(ready: Job, name: str) -> None:
    """Whatever it raises, it is one line."""
    prepare(ready, "")
    broken = Path(ready.environment["PYTHONPATH"]) / f"{name}.py"
    broken.write_text("raise AttributeError('module has\\nno attribute x')")
    ended = ready.run()
    assert (ended.status, ended.files) == (1, {"Sections.csv"})
    assert ended.stderr.startswith("ERROR module has no attribute x. Start the job with .venv/bin")
    assert ended.stderr.count("\n") == 1


def test_windows_is_told_where_the_job_runs(ready: Job) -> None:
    """It has no fcntl."""
    prepare(ready, "import sys; sys.modules['fcntl'] = None")
    ended = ready.run()
    assert (ended.status, ended.files) == (1, {"Sections.csv"})
    assert ended.stderr == "ERROR this runs on Linux and macOS; on Windows, in WSL\n"


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
