"""The README, --help and the script say the same, and the README's commands work as they stand."""

import ast
import configparser
import email
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import district
import oracledb
import pytest
from checks import wait_for
from clever import Clever
from job import SCRIPT, Job
from powerschool import PowerSchool
from sshd import sshd

import clever_sections

PROJECT = SCRIPT.parent
README = (PROJECT / "README.md").read_text()
SOURCE = SCRIPT.read_text()
GOLDEN = Path(__file__).parent / "sample.csv"


# --- What the README has ---


class Block(NamedTuple):
    """What stands between two lines of ```."""

    language: str
    text: str


BLOCKS = [
    Block(language, dedent(text))
    for language, text in re.findall(r"(?ms)^ *```(\w*)\n(.*?)^ *```$", README)
]
PROSE = re.sub(r"(?ms)^ *```.*?^ *```$", "", README)
HEADINGS = re.findall(r"(?m)^#+ (.+)$", PROSE)


def block(beginning: str) -> str:
    """The README's one block that begins like this."""
    [text] = [text for _, text in BLOCKS if text.lstrip().startswith(beginning)]
    return text


def inline(beginning: str) -> str:
    """The README's one command in its text that begins like this, or is this."""
    there: set[str] = set(re.findall(r"`([^`\n]+)`", PROSE))
    [text] = there & {beginning} or {text for text in there if text.startswith(beginning)}
    return text


def table(header: str) -> list[list[str]]:
    """The rows of the README's table that starts with this header, as cells."""
    rows = README.split(f"| {header} |\n", 1)[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


STEP_1 = "apt-get install -y python3-venv"
STEP_2 = "cd /opt/clever && python3 -m venv"
STEP_3 = "POWERSCHOOL_READ_USER="
STEP_4 = "ssh-keyscan"
STEP_5 = "echo '#!/bin/sh' > nightly"
STEP_6 = "./nightly --dry-run"
STEP_8 = "(echo 'MAILTO="
PING = "0 2 * * * /opt/clever/nightly && curl"
UPGRADE = "cp /opt/clever/clever_sections.py"
MAIL = "apt-get install -y msmtp-mta"
MAIL_SETTINGS = "account default"
VPN = "openconnect"
FORWARD = "ssh -N -L"
FORWARD_UNIT, JOB_UNIT, TIMER_UNIT = "[Unit]", "[Service]\nType=oneshot", "[Timer]"
IMAGE, CONTAINER = "FROM python", "docker build"
TRIED = [
    *(STEP_1, STEP_2, STEP_3, STEP_4, STEP_5, STEP_6, STEP_8, PING, UPGRADE, MAIL, MAIL_SETTINGS),
    *(VPN, FORWARD, FORWARD_UNIT, JOB_UNIT, TIMER_UNIT, IMAGE, CONTAINER),
]
TRIED_ELSEWHERE = [
    "python3 -m venv .venv && .venv/bin/pip install -q -r tests/requirements.txt",  # by .ci/run
    *("cd /opt/clever; . ./variables", "put Sections.previous.csv"),  # in test_look.py
]
NO_COMMANDS = ["1 read ", "2026-11-25 02:00:03 INFO "]


def test_every_command_is_tried() -> None:
    known = (*TRIED, *TRIED_ELSEWHERE, *NO_COMMANDS)
    assert [text for _, text in BLOCKS if not text.lstrip().startswith(known)] == []


def test_ci_finds_its_two_commands() -> None:
    commands = re.findall(r"(?m)^python3 -m venv.*$", README)
    assert [command.rsplit(" && ", 1)[1] for command in commands] == [
        ".venv/bin/python tests/demo.py",
        ".venv/bin/python -m pytest",
    ]


def test_links_lead_somewhere() -> None:
    anchors = {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in HEADINGS}
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PROSE) if "://" not in link]
    assert len(links) > 15
    for link in links:
        assert link[1:] in anchors if link[0] == "#" else (PROJECT / link).exists(), link


def test_the_first_evening_has_at_most_80_lines() -> None:
    evening = README.split("\n# The first evening\n")[1].split("\n# Reference\n")[0]
    assert len(evening.splitlines()) < 80  # and its heading


# --- The README and the script ---


def texts(tree: ast.AST) -> Iterator[str]:
    """The script's strings, without docstrings; "…" is what is filled in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr):
            parts = ast.unparse(node).replace("{OUTPUT.name}", "Sections.csv")
            yield re.sub(r"\{[^}]*\}", "…", parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_docstring:
            yield from texts(node)


TEXTS = list(texts(ast.parse(SOURCE)))
SHELLS_WORDS = "/variables: Syntax error: Unterminated quoted string"  # not the script's


def test_the_messages_are_the_scripts() -> None:
    rows = table("message | what else to know")
    assert len(rows) > 8
    for cell, _ in rows:
        for words in cell.split("`")[1].split("…"):
            is_said = any(words.strip(": ") in text for text in TEXTS)
            assert is_said or words == SHELLS_WORDS, words


def test_the_settings_are_the_scripts() -> None:
    rows = table("constant | default | meaning")
    names = [row[0].strip("`") for row in rows]
    assert names == list(clever_sections.__annotations__)
    for name, (_, default, _) in zip(names, rows, strict=True):
        if default.startswith("`"):
            assert getattr(clever_sections, name) == ast.literal_eval(default.strip("`"))


def test_settings_and_variables_are_called_as_in_the_script() -> None:
    others = {"TNS_ADMIN", "UV_SYSTEM_CERTS"}  # python-oracledb's and uv's
    names = set(re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b", README)) - others
    assert len(names) > 20
    known = {*clever_sections.__annotations__, *re.findall(r"\b[A-Z]+_[A-Z_]+\b", SOURCE)}
    # `CLEVER_` and `IGNORE_` stand for several.
    assert {name for name in names if not name.endswith("_")} <= known


def test_the_columns_are_the_scripts() -> None:
    names = re.findall(r"`([A-Z]\w+)`", " ".join(row[0] for row in table("column | what it holds")))
    columns = [name for name in clever_sections.columns() if not re.match("Teacher_[3-9]_", name)]
    assert names == columns


def test_the_tables_that_the_account_needs_are_those_of_the_queries() -> None:
    needed = README.split("needs to read the tables", 1)[1].split("`IGNORE_ZERO")[0]
    queried = set(re.findall(r"(?:FROM|JOIN) ([a-z]+)", " ".join(TEXTS)))
    assert set(re.findall(r"`(\w+)`", needed)) == queried


def test_the_files_and_exit_statuses_are_those_of_help(job: Job) -> None:
    shown = job.run("--help").stdout
    for cell, _ in table("file | what it is"):
        assert cell.strip(" `") in shown.split("exit status:")[0]
    for cell, _ in table("exit status | meaning"):
        for status in cell.split(", "):
            assert re.search(rf"\b{status} ", shown.split("exit status:")[1])
    for option in set(re.findall(r"(?<=[ `])--(?:dry|force|date)[a-z-]*", PROSE)):
        assert f"  {option} " in shown


def test_the_newest_version_is_the_scripts() -> None:
    versions = re.findall(r"(?m)^- \*\*([\d.]+)\*\*", README)
    assert versions[0] == clever_sections.VERSION


def test_uv_and_pip_install_the_same() -> None:
    [metadata] = re.findall(r"(?m)^# dependencies = (.*)$", SOURCE)
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    assert ast.literal_eval(metadata) == [line.split("#")[0].strip() for line in lines]
    [python] = re.findall(r'(?m)^# requires-python = "(.*)"$', SOURCE)
    assert python == ">=3.10"
    assert SOURCE.split('"""')[0].count("# ///") == 2


# --- The README's commands ---


def skip_without(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is missing")


def can_mount() -> bool:
    """Whether this user may have mounts of his own: then nothing outside of these is changed."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    trial = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/opt"]
    return subprocess.run(trial, capture_output=True).returncode == 0


class Place(NamedTuple):
    """A folder in place of /opt/clever, with what step 1 copies, and Clever and PowerSchool."""

    folder: Path
    clever: Clever
    powerschool: PowerSchool

    def sh(
        self, commands: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run commands of the README, word for word but for that folder."""
        return subprocess.run(
            ["/bin/sh", "-c", commands.replace("/opt/clever", str(self.folder))],
            cwd=cwd or self.folder,
            env={"PATH": os.environ["PATH"]} if env is None else env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def write_variables(self) -> None:
        """Step 3, with an apostrophe in a password."""
        self.clever.password = "Quartz'Lake-93"
        values = {
            "POWERSCHOOL_READ_USER": self.powerschool.user,
            "POWERSCHOOL_DB_PASSWORD": self.powerschool.password,
            "POWERSCHOOL_PROD_DB": self.powerschool.dsn,
            "CLEVER_SFTP_USERNAME": self.clever.username,
            "CLEVER_SFTP_PASSWORD": self.clever.password.replace("'", inline("'")),
            "CLEVER_SFTP_ADDRESS": self.clever.address,
        }
        lines = block(STEP_3).splitlines()
        assert [re.split("='.*'$", line)[0] for line in lines] == list(values)
        assert self.sh(inline("install -m")).returncode == 0
        with open(self.folder / "variables", "a") as file:
            file.writelines(f"{name}='{value}'\n" for name, value in values.items())

    def set_up(self) -> None:
        """Steps 3 to 5."""
        self.write_variables()
        (self.folder / "known_hosts").write_text(self.clever.known_hosts_line())
        assert self.sh(block(STEP_5)).returncode == 0


@pytest.fixture
def place(tmp_path: Path, quiet: PowerSchool, clever: Clever) -> Place:
    """A place as step 2 leaves it; PowerSchool has a school year that is under way today."""
    folder = tmp_path / "opt-clever"
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    for name, command in (("python", ""), ("pip", "-m pip")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {command} "$@"\n')
        (programs / name).chmod(0o755)
    for name in ("clever_sections.py", "known_hosts", "requirements.txt"):
        shutil.copy(PROJECT / name, folder)
    today = date.today()
    last_day = today + timedelta(days=30)
    district.change(
        quiet.database,
        f"UPDATE terms SET yearid = {today.year - 1990},"
        f" firstday = '{today} 00:00:00', lastday = '{last_day} 00:00:00'",
    )
    return Place(folder, clever, quiet)


def test_step_1_makes_a_user_and_a_folder(tmp_path: Path) -> None:
    """With an /etc and an /opt of its own, so that nothing is left of it."""
    skip_without("unshare", "useradd", "su")
    if not can_mount():
        pytest.skip("only root can make a user, and mounts for this test alone")
    prepare = """
        mount -t tmpfs tmpfs /mnt
        cp -a /etc /mnt/etc
        mount --bind /mnt/etc /etc
        mount -t tmpfs tmpfs /opt
        sed -i '/^clever:/d' /etc/passwd /etc/shadow /etc/group /etc/gshadow
    """
    no_apt = tmp_path / "bin/apt-get"
    no_apt.parent.mkdir()
    no_apt.write_text("#!/bin/sh\n")
    no_apt.chmod(0o755)
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-e", "-c", prepare + block(STEP_1)],
        input='echo "I am $(id -un) in $(pwd)"; ls; find . ! -user clever',
        env={"PATH": f"{no_apt.parent}:{os.environ['PATH']}"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert "I am clever in /opt/clever" in lines
    assert lines[-3:] == ["clever_sections.py", "known_hosts", "requirements.txt"]


@pytest.mark.takes_long
def test_step_2_gets_the_packages(place: Place) -> None:
    skip_without("python3")
    if os.environ.get("CI"):
        pytest.skip("CI has just installed the same packages by the README's first command")
    if subprocess.run(["python3", "-c", "import ensurepip"], capture_output=True).returncode:
        pytest.skip("ensurepip is missing: install python3-venv")
    shutil.rmtree(place.folder / ".venv")
    # From ours, how packages are reached from here.
    ended = place.sh(block(STEP_2), env={**os.environ, "PIP_RETRIES": "1"})
    if "connection" in ended.stderr.lower():
        pytest.skip("pip does not reach its packages")
    assert (ended.returncode, ended.stdout) == (0, "")
    shown = place.sh(".venv/bin/python clever_sections.py --version")
    assert shown.stdout == f"clever_sections.py {clever_sections.VERSION}\n"


def keyscan(port: int) -> str:
    """Step 4's commands for a server on this machine, on another port, as the README says."""
    option = inline("-p 2222").replace("2222", str(port))
    return block(STEP_4).replace("ssh-keyscan sftp.clever.com", f"ssh-keyscan {option} 127.0.0.1")


def test_steps_3_to_7_lead_to_an_upload(place: Place) -> None:
    skip_without("ssh-keyscan", "ssh-keygen")
    place.write_variables()
    assert (place.folder / "variables").stat().st_mode & 0o777 == 0o600

    fetched = place.sh(keyscan(place.clever.port))
    assert place.clever.keys[0].get_fingerprint() in fetched.stdout
    assert (place.folder / "known_hosts").read_text() == place.clever.known_hosts_line()

    assert place.sh(block(STEP_5)).returncode == 0
    dry = place.sh(block(STEP_6))
    assert (dry.returncode, dry.stderr) == (0, "")
    written = (place.folder / "Sections.csv").read_bytes()
    assert written.count(b"\n") == 21
    assert place.clever.stored == []

    upload = place.sh(inline("./nightly"))
    assert (upload.returncode, upload.stderr) == (0, "")
    assert (place.clever.folder / "Sections.csv").read_bytes() == written


def test_step_7_goes_on_by_force(place: Place) -> None:
    place.set_up()
    assert place.sh(inline("./nightly")).returncode == 0
    district.change(place.powerschool.database, "DELETE FROM sections WHERE id > 10")
    stopped = place.sh(inline("./nightly"))
    assert stopped.returncode == 1
    assert "Clever would lose 10 of 20 sections" in stopped.stderr
    assert place.sh(inline("./nightly --force")).returncode == 0
    assert (place.clever.folder / "Sections.csv").read_bytes().count(b"\n") == 11


def test_an_ssh_keyscan_that_fails_leaves_the_old_key(place: Place, closed_port: int) -> None:
    skip_without("ssh-keyscan", "ssh-keygen")
    old = place.clever.known_hosts_line()
    (place.folder / "known_hosts").write_text(old)
    place.sh(keyscan(closed_port))
    assert (place.folder / "known_hosts").read_text() == old


def as_cron(place: Place, line: str, before: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command of a line of a crontab the way cron does."""
    *times, command = line.split(maxsplit=5)
    assert times == ["0", "2", "*", "*", "*"]
    assert "%" not in command  # cron takes that for the end of the line
    environment = {"HOME": str(place.folder), "LOGNAME": "clever", "SHELL": "/bin/sh"}
    return place.sh(before + command, Path("/"), environment | {"PATH": "/usr/bin:/bin"})


def test_step_8_has_cron_do_it_every_night(place: Place) -> None:
    place.set_up()
    mailto, line = place.sh(f"crontab() {{ cat; }}\n{block(STEP_8)}").stdout.splitlines()
    assert re.fullmatch(r"MAILTO=\S+@\S+", mailto)
    ended = as_cron(place, line)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")  # so nothing is mailed
    assert [name for name, _ in place.clever.stored] == ["Sections.csv.tmp"]


def test_only_a_good_run_sends_a_ping(place: Place) -> None:
    """The other one fails because of a quote that is not closed."""
    place.set_up()
    curl = 'curl() { echo "ping $*"; }\n'
    assert as_cron(place, block(PING), curl).stdout.startswith("ping -fsS -o /dev/null https://")
    (place.folder / "variables").write_text("CLEVER_SFTP_PASSWORD='it\n")
    ended = as_cron(place, block(PING), curl)
    assert ended.returncode != 0
    assert ended.stdout == ""
    if Path("/bin/sh").resolve().name == "dash":  # other shells have other words
        assert SHELLS_WORDS in ended.stderr


def an_older_script() -> str:
    """Version 2.0; without the history that has it, the script of today."""
    show = ["git", "show", "51f2a18:clever_sections.py"]
    try:
        shown = subprocess.run(show, cwd=PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return SOURCE
    return shown.stdout


def test_an_upgrade_shows_what_differs_in_the_settings(place: Place) -> None:
    older = an_older_script()
    own, count = re.subn(r"(?m)^(IGNORED_SCHOOLS\b.* = )set\(\)", r"\1{800, 999999}", older)
    assert count == 1
    (place.folder / "clever_sections.py").write_text(own)
    su = f'su() {{ (cd {place.folder}; sh -c "$4"); }}\n'  # su - clever -c COMMAND
    environment = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1"}
    ended = place.sh(su + block(UPGRADE), PROJECT, environment)
    assert ended.stderr == ""
    assert (place.folder / "clever_sections.py").read_text() == SOURCE
    assert (place.folder / "clever_sections.old.py").read_text() == own
    assert re.search(r"(?m)^< IGNORED_SCHOOLS.* = \{800, 999999\}", ended.stdout)
    assert re.search(r"(?m)^> IGNORED_SCHOOLS.* = set\(\)", ended.stdout)
    assert older == SOURCE or "\n> TABLE_OWNER" in ended.stdout
    assert not re.search("[<>] *(def|import) ", ended.stdout)
    compared = (place.folder / "clever_sections.py.settings").read_text()
    for name in clever_sections.__annotations__:
        assert f"\n{name} = " in f"\n{compared}"
    # No more than what differs: a type or a comment that is new is no difference.
    assert ended.stdout.count("IGNORED_SCHOOLS") == 2
    assert "MAX_LOST" not in ended.stdout


def test_a_mail_to_try_it(place: Place) -> None:
    command = inline("printf ")
    assert "/usr/sbin/sendmail you@" in command
    sendmail = place.folder / "sendmail"
    sendmail.write_text('#!/bin/sh\necho "To: $*"\ncat\n')
    sendmail.chmod(0o700)
    ended = place.sh(command.replace("/usr/sbin/sendmail", str(sendmail)))
    message = email.message_from_string(ended.stdout)
    assert (message["To"], message["Subject"]) == ("you@example.org", "test")
    assert message.get_payload() == "cron can mail\n"


def test_the_mail_programs_settings(place: Place) -> None:
    skip_without("msmtp")
    file = place.folder / "msmtprc"
    assert place.sh(inline("install -o").replace("-o clever", "").replace("/etc", ".")).stderr == ""
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(block(MAIL_SETTINGS))
    ended = place.sh("msmtp --file=msmtprc --pretend you@example.org")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "smtp.example.org" in ended.stdout


@pytest.mark.parametrize("name", ["clever.service", "clever.timer", "powerschool.service"])
def test_systemds_units(place: Place, name: str) -> None:
    units = {
        "clever.service": block(JOB_UNIT),
        "clever.timer": block(TIMER_UNIT),
        "powerschool.service": block(FORWARD_UNIT),
    }
    assert f"/etc/systemd/system/{name}`" in README
    for other, text in units.items():
        configparser.ConfigParser(interpolation=None).read_string(text)
        started = text.replace("/opt/clever/nightly", "/bin/sh").replace("/usr/bin/ssh", "/bin/sh")
        (place.folder / other).write_text(started)
    skip_without("systemd-analyze")
    ended = place.sh(f"systemd-analyze verify --man=no ./{name}")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.fixture
def own_port() -> Iterator[int]:
    """A port that is free for ssh, and nobody else's while the test runs."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))  # without listening, so another one may, as ssh does it
        yield reserved.getsockname()[1]


def forwarding(options: list[str], command: str, user: str, ports: tuple[int, int]) -> list[str]:
    """A command of the README that forwards, for a user of a server on this machine."""
    here, there = ports
    program, *words = shlex.split(command)
    assert Path(program).name == "ssh"
    filled_in = {
        "1521:127.0.0.1:1521": f"{here}:127.0.0.1:{there}",
        "YOU@ssh.example.org": f"{user}@127.0.0.1",
    }
    assert filled_in.keys() <= set(words)
    return ["ssh", *options, *(filled_in.get(word, word) for word in words)]


def test_an_ssh_forward_leads_to_powerschool(
    tmp_path: Path, powerschool: PowerSchool, own_port: int
) -> None:
    """The server's key is of a kind that a client of today takes only if it is told to."""
    skip_without("ssh", "ssh-keygen")
    old_kind = shlex.split(inline("-o HostKeyAlgorithms=+ssh-rsa"))
    key, known = tmp_path / "key", tmp_path / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    ports = (own_port, int(powerschool.dsn.split(":")[1].split("/")[0]))
    with sshd("HostKeyAlgorithms ssh-rsa\nForceCommand none", "rsa") as server:
        (server.home / ".ssh").mkdir()
        shutil.copy(tmp_path / "key.pub", server.home / ".ssh/authorized_keys")
        known.write_text(server.known_hosts_line())
        options = [*("-F", "none"), "-p", str(server.port), "-i", str(key), "-o", "BatchMode=yes"]
        options += ["-o", f"UserKnownHostsFile={known}"]

        command = forwarding(options, block(FORWARD), server.user, ports)
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert inline("no matching host key type") in refused.stderr

        [start] = re.findall("(?m)^ExecStart=(.*)$", block(FORWARD_UNIT))
        for line in (block(FORWARD), start):
            command = forwarding([*options, *old_kind], line, server.user, ports)
            with started(command):
                wait_for(lambda: answers(own_port))
                address = f"127.0.0.1:{own_port}/{powerschool.dsn.split('/')[1]}"
                user, password = powerschool.user, powerschool.password
                oracledb.connect(user=user, password=password, dsn=address).close()


@contextmanager
def started(command: list[str]) -> Iterator[None]:
    """Run a command while the block lasts."""
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_openconnect_knows_the_protocol() -> None:
    skip_without("openconnect")
    [protocol] = re.findall(r"--protocol=(\w+)", block(VPN))
    shown = subprocess.run(["openconnect", "--version"], capture_output=True, text=True)
    assert re.search(rf"Supported protocols:.*\b{protocol}\b", shown.stdout + shown.stderr)


UV = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


@pytest.mark.takes_long
@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_uv_runs_the_script(place: Place, powerschool: PowerSchool) -> None:
    with_uv, without = inline("exec /usr/local/bin/uv"), inline("exec .venv/bin/python")
    place._replace(powerschool=powerschool).set_up()
    shutil.rmtree(place.folder / ".venv")
    nightly = place.folder / "nightly"
    assert without in nightly.read_text()
    command = with_uv.replace("/usr/local/bin/uv", str(UV))
    nightly.write_text(nightly.read_text().replace(without, command))
    # From ours, how packages are reached from here.
    environment = {**os.environ, "UV_SYSTEM_CERTS": "1"}
    ended = place.sh(f"{inline('./nightly')} --dry-run --date 2026-11-24", env=environment)
    assert (ended.returncode, ended.stdout) == (0, "")  # where it installs something, uv says so
    assert (place.folder / "Sections.csv").read_bytes() == GOLDEN.read_bytes()


def test_a_container(quiet: PowerSchool, clever: Clever, job: Job) -> None:
    """What the commands say, and the job as it is in there: its own folder cannot be written."""
    steps = [line.split(maxsplit=1) for line in block(IMAGE).splitlines()]
    assert [kind for kind, _ in steps] == ["FROM", "COPY", "RUN", "ENV", "CMD"]
    *copied, target = steps[1][1].split()
    assert all((PROJECT / name).exists() for name in copied)
    variable, data = steps[3][1].split("=")
    assert json.loads(steps[4][1]) == ["python", f"{target}clever_sections.py"]

    build, run = [shlex.split(line) for line in block(CONTAINER).splitlines()]
    assert build[:2] == ["docker", "build"]
    assert run[-1] == build[build.index("-t") + 1]
    assert {"--read-only", "--env-file"} <= set(run)
    assert run[run.index("-v") + 1].split(":")[1] == data

    folder = job.folder.parent / "data"
    folder.mkdir()
    job.connect(quiet, clever).known_hosts.rename(folder / "known_hosts")
    job.environment[variable] = str(folder)
    job.folder.chmod(0o500)
    before = ["unshare", "--mount", "sh", "-c", READ_ONLY, str(job.folder)] if can_mount() else []
    ended = job.end(job.start(before=before))
    assert (ended.status, ended.stderr, ended.files) == (0, "", set())
    assert (clever.folder / "Sections.csv").exists()


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@pytest.mark.takes_long
def test_the_demo_shows_four_nights_in_six_steps(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(PROJECT / "tests/demo.py")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    nights = ended.stdout.split("=== Night ")[1:]
    assert len(nights) == 4
    for step in ("1 read", "2 write", "3 look", "4 check", "5 upload", "6 tell"):
        assert f"\n{step} " in nights[0]
    assert "(+0, -0, 0 changed), uploaded" in nights[1]
    assert re.search(r"(?m)^changed +300 .* Period +1 +2$", nights[2])
    assert "Clever would lose" in nights[3]
    assert "5 upload" not in nights[3]
    assert max(map(len, ended.stdout.splitlines())) <= 100
    assert os.listdir(tmp_path) == []
