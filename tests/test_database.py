"""The database, fault by fault: no part of a file is written, and the message says why."""

import shutil
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import district
import pytest
from checks import OLD, check_clean, check_failed, check_remote, check_uploaded
from clever import Clever
from faults import BUSY, DROP, HALF, HANG, SLOW, at
from hosts import Hosts, silent, tls_server
from job import Ended, Job
from powerschool import ENCRYPTION, OLD_RELEASE, OLD_VERIFIER, PowerSchool

CONNECTING = "ERROR connecting to PowerSchool: "


def attempts(ended: Ended) -> int:
    return ended.log.count("INFO attempt ") + 1


# --- Connecting ---


@pytest.mark.parametrize(
    ("variable", "value", "words", "advice", "tries"),
    [
        (
            *("POWERSCHOOL_DB_PASSWORD", "Wrong-Oak-00", "ORA-01017"),
            *("Check POWERSCHOOL_READ_USER and POWERSCHOOL_DB_PASSWORD", 1),
        ),
        (
            *("POWERSCHOOL_DB_PASSWORD", "ORA-12514", "ORA-01017"),
            *("Check POWERSCHOOL_READ_USER and POWERSCHOOL_DB_PASSWORD", 1),
        ),
        (
            *("POWERSCHOOL_READ_USER", "nobody", "ORA-01017"),
            *("Check POWERSCHOOL_READ_USER and POWERSCHOOL_DB_PASSWORD", 1),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "127.0.0.1:{port}/OTHER", "DPY-6001"),
            *("Check the service's name at the end of POWERSCHOOL_PROD_DB", 3),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "127.0.0.1:{closed}/PSPROD", "Connection refused"),
            *("Check host and port in POWERSCHOOL_PROD_DB", 3),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "nowhere.invalid/PSPROD", "[Errno -"),
            *("Check the host's name in POWERSCHOOL_PROD_DB, and this machine's DNS", 3),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "ps..example.org:1521/PSPROD", "idna"),
            *("Check the host's name in POWERSCHOOL_PROD_DB", 1),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "no_such_alias", "DPY-4027"),
            *("Check the form of POWERSCHOOL_PROD_DB: host:1521/service", 1),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "(DESCRIPTION=(ADDRESS=(PROTOCOL=x)(HOST=a)))", "DPY-"),
            *("Check the form of POWERSCHOOL_PROD_DB: host:1521/service", 1),
        ),
    ],
)
def test_connecting_fails(
    ready: Job,
    quiet: PowerSchool,
    clever: Clever,
    closed_port: int,
    variable: str,
    value: str,
    words: str,
    advice: str,
    tries: int,
) -> None:
    ready.environment[variable] = value.format(port=quiet.port, closed=closed_port)
    ended = ready.run(timeout=15)
    if value == "ORA-12514":  # a password that is a word of a message
        assert (ended.status, attempts(ended)) == (1, 1)
        assert advice in ended.stderr
        return
    check_failed(ready, ended, CONNECTING, words, f". {advice}")
    check_remote(clever, OLD)
    assert attempts(ended) == tries


def test_a_server_that_talks_nonsense_for_ever(ready: Job, clever: Clever) -> None:
    """The driver reads on and on; the time limit ends that, too."""

    def talk(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with suppress(OSError):
                    while True:
                        connection.sendall(b"x" * 65_536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=talk, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        ready.environment["POWERSCHOOL_PROD_DB"] = f"127.0.0.1:{port}/PSPROD"
        ended = ready.set(CONNECT_ATTEMPTS=1).run(timeout=40)
    check_failed(ready, ended, CONNECTING)
    assert ended.seconds < 20
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("step", "wrong", "words", "tries"),
    [
        ("CONNECT", DROP, "show this line to whoever runs PowerSchool's database", 3),
        ("CONNECT", HANG, "no answer in time. Check POWERSCHOOL_PROD_DB, and the firewalls", 3),
        ("LOG IN", DROP, "show this line to whoever runs PowerSchool's database", 3),
        ("LOG IN", HANG, "no answer in time. Check POWERSCHOOL_PROD_DB, and the firewalls", 3),
        ("PASSWORD", DROP, "show this line to whoever runs PowerSchool's database", 3),
        ("PASSWORD", HANG, "no answer in time. Check POWERSCHOOL_PROD_DB, and the firewalls", 3),
        ("CONNECT", "ORA-12514: no such service", "Check the service's name", 3),
        ("CONNECT", "ORA-12505: no such SID", "Check the service's name", 3),
        ("CONNECT", "ORA-12528: blocked", "starting, stopping or in its backup", 3),
        ("LOG IN", "ORA-01033: ORACLE initialization or shutdown in progress", "its backup", 3),
        ("PASSWORD", "ORA-01033: ORACLE initialization or shutdown in progress", "its backup", 3),
        ("PASSWORD", "ORA-28000: The account is locked.", "administrator unlock the account", 1),
        ("PASSWORD", "ORA-28001: the account has expired", "Have the password changed", 1),
        ("PASSWORD", "ORA-01045: user lacks CREATE SESSION", "Have CREATE SESSION granted", 1),
    ],
)
def test_connecting_never_succeeds(
    ready: Job,
    quiet: PowerSchool,
    clever: Clever,
    step: str,
    wrong: str,
    words: str,
    tries: int,
) -> None:
    quiet.fault = at(step, wrong)
    ended = ready.run(timeout=20)
    check_failed(ready, ended, CONNECTING, words)
    check_remote(clever, OLD)
    assert attempts(ended) == tries
    assert quiet.steps.count("CONNECT") == tries
    if wrong == HANG:
        assert 6 <= ended.seconds < 15


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ("CONNECT", DROP),
        ("LOG IN", DROP),
        ("PASSWORD", HANG),
        ("PASSWORD", "ORA-01033: ORACLE initialization or shutdown in progress"),
    ],
)
def test_connecting_succeeds_the_third_time(
    ready: Job, quiet: PowerSchool, clever: Clever, step: str, wrong: str
) -> None:
    quiet.fault = at(step, wrong, times=2)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert attempts(ended) == 3


def test_the_next_try_waits(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    tries: list[float] = []

    def fault(step: str) -> str | None:
        if step != "CONNECT":
            return None
        tries.append(time.monotonic())
        return DROP if len(tries) == 1 else None

    quiet.fault = fault
    check_uploaded(ready, ready.set(RETRY_DELAY_SECONDS=1).run(), clever)
    assert 1 <= tries[1] - tries[0] < 5


@pytest.mark.parametrize(
    ("demand", "code", "advice"),
    [
        (ENCRYPTION, "DPY-3001", "demands Oracle's own encryption"),
        (OLD_RELEASE, "DPY-3010", "older than Oracle 12.1"),
        (OLD_VERIFIER, "DPY-3015", "Have the same password set once more"),
    ],
)
def test_a_database_that_the_driver_cannot_talk_to(
    ready: Job, quiet: PowerSchool, clever: Clever, demand: str, code: str, advice: str
) -> None:
    quiet.demands = demand
    ended = ready.run()
    check_failed(ready, ended, CONNECTING, code, advice)
    check_remote(clever, OLD)
    assert attempts(ended) == 1


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing")
def test_a_certificate_that_nobody_vouches_for(ready: Job, clever: Clever, tmp_path: Path) -> None:
    """A TLS server with a certificate of its own, as a hosted database has it."""
    with tls_server(tmp_path) as port:
        ready.environment["POWERSCHOOL_PROD_DB"] = f"tcps://127.0.0.1:{port}/PSPROD"
        ended = ready.run()
    check_failed(ready, ended, CONNECTING, "?wallet_location=/the/folder")
    check_remote(clever, OLD)
    assert attempts(ended) == 1


@pytest.mark.parametrize(
    "warning",
    [
        "ORA-28002: the password will expire within 7 days",
        "ORA-28011: the account will expire soon; change your password now",
    ],
)
def test_the_password_will_expire(
    ready: Job, quiet: PowerSchool, clever: Clever, warning: str
) -> None:
    quiet.warning = warning
    ended = ready.run()
    assert ended.status == 0
    assert ended.stderr == (
        f"WARNING PowerSchool says: {warning}. "
        "Have the password changed, and put the new one into POWERSCHOOL_DB_PASSWORD\n"
    )
    check_remote(clever, ready.output.read_bytes())


@pytest.mark.parametrize(
    "address",
    [
        "ps_read/{password}@127.0.0.1:1:2/b//",
        "ps_read/Short1@127.0.0.1:{closed}/PSPROD",
        "127.0.0.1:{closed}/PSPROD?wallet_password=Short1&retry=x y",
        "(DESCRIPTION=(SECURITY=(WALLET_PASSWORD=Short1))(ADDRESS=(PORT=x)))",
        "(DESCRIPTION=(PWD=Short1)(ADDRESS=(PORT=x)))",
        "(DESCRIPTION=(PWD=Short1))",
        "ps_read/Short1:x/y@z:1521:",
        "ps_read/Sho/rt1@127.0.0.1:{closed}/PSPROD",
        "ps_read/Sho@rt1@127.0.0.1:{closed}/PSPROD",
        'ps_read/Sho"rt1@127.0.0.1:{closed}/PSPROD',
        "ps_read/Short1:1521",
        "ps_read/Short1 host:1521",
        "ldap://h/Short1",
        "127.0.0.1:{port}/Short1",
        "127.0.0.1:{port}/{upper}",
        "127.0.0.1:{port}/PSPROD:Short1",
        "Driver=x;UID=ps_read;PWD=Short1;DBQ=h",
        "ps_read:Short1",
        "Short1",
        "tcps://ps_read:Short1",
    ],
)
def test_a_password_in_the_connect_string_is_not_shown(
    ready: Job,
    quiet: PowerSchool,
    clever: Clever,
    closed_port: int,
    tmp_path: Path,
    address: str,
) -> None:
    (tmp_path / "tnsnames.ora").write_text("")
    ready.environment["TNS_ADMIN"] = str(tmp_path)
    ready.environment["POWERSCHOOL_PROD_DB"] = address.format(
        closed=closed_port,
        port=quiet.port,
        password=quiet.password,
        upper=quiet.password.upper(),
    )
    ended = ready.run(timeout=15)
    check_failed(ready, ended, CONNECTING)
    for part in (quiet.password, quiet.password.upper(), "Short1", "Sho", "rt1", "short1"):
        assert part not in ended.stderr + ended.log
    check_remote(clever, OLD)


def test_the_words_of_a_connect_string_error_are_shown(ready: Job) -> None:
    ready.environment["POWERSCHOOL_PROD_DB"] = "ps_read/x@127.0.0.1:1:2/b//"
    ended = ready.run()
    words = 'DPY-4018: cannot parse connect string "...". Check the form of POWERSCHOOL_PROD_DB'
    check_failed(ready, ended, CONNECTING, words)


# --- Reading ---


@pytest.mark.parametrize(
    ("table", "reading"),
    [
        ("schools", "reading the schools"),
        ("terms", "reading the terms of school 100"),
        ("sections", "reading the sections of school 100, term 3600"),
        ("courses", "reading the sections of school 100, term 3600"),
        ("sectionteacher", "reading the sections of school 100, term 3600"),
        ("teachers", "reading the sections of school 100, term 3600"),
        ("roledef", "reading the sections of school 100, term 3600"),
        ("cc", "reading the sections of school 100, term 3600"),
    ],
)
def test_a_table_is_forbidden(
    ready: Job, quiet: PowerSchool, clever: Clever, table: str, reading: str
) -> None:
    ready.set(IGNORE_ZERO_ENROLLMENT_SECTIONS=True)
    district.change(quiet.database, f"DROP TABLE {table}")
    ended = ready.run()
    check_failed(ready, ended, f"ERROR {reading}: ORA-00942", ". Have SELECT granted")
    check_remote(clever, OLD)


def test_cc_is_not_read_unless_it_is_needed(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    district.change(quiet.database, "DROP TABLE cc")
    check_uploaded(ready, ready.run(), clever)


def test_a_column_that_is_not_there(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    ended = ready.set(TEACHER_ID_COLUMN="no_such_column").run()
    check_failed(ready, ended, "ORA-00904", ". Check TEACHER_ID_COLUMN and PERIOD_COLUMN")
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("where", "after", "wrong", "words"),
    [
        ("SET TRANSACTION", 0, DROP, "reading PowerSchool: DPY-4011"),
        ("FROM schools", 0, DROP, "reading the schools: DPY-4011"),
        ("FROM terms", 1, DROP, "reading the terms of school 101: DPY-4011"),
        ("FROM sections", 7, DROP, "reading the sections of school 101, term 3603: DPY-4011"),
        ("FROM sections", 2, HALF, "reading the sections of school 100, term 3602: DPY-4011"),
        ("FROM sections", 7, HALF, "reading the sections of school 101, term 3603: DPY-4011"),
        ("FROM sections", 1, HANG, "reading the sections of school 100, term 3601: DPY-4011"),
        ("FROM sections", 1, BUSY, "reading the sections of school 100, term 3601: DPY-4024"),
        ("FROM sections", 1, BUSY, "set QUERY_TIMEOUT_SECONDS higher"),
        ("FROM terms", 0, "ORA-01555: snapshot too old", "school 100: ORA-01555: snapshot too"),
        ("FROM terms", 0, "ORA-01555: snapshot too old", "run the job at another hour"),
    ],
)
def test_a_query_fails(
    ready: Job, quiet: PowerSchool, clever: Clever, where: str, after: int, wrong: str, words: str
) -> None:
    quiet.fault = at(where, wrong, after=after)
    check_failed(ready, ready.run(timeout=10), words)
    check_remote(clever, OLD)


def test_a_slow_database_is_not_a_silent_one(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    quiet.fault = at("FROM", SLOW, times=3)
    ended = ready.set(QUERY_TIMEOUT_SECONDS=5).run()
    check_uploaded(ready, ended, clever)
    assert ended.seconds > 2


@pytest.mark.parametrize("wrong", [DROP, HALF, "ORA-03113: end-of-file on communication"])
def test_the_last_batch_of_many_rows_fails(
    tmp_path: Path, clever: Clever, ready: Job, wrong: str
) -> None:
    with PowerSchool(district.made(tmp_path / "large.db", 1, 16_000)) as powerschool:
        ready.connect(powerschool)
        assert ready.run("--dry-run").status == 0
        fetches = sum(step.startswith("FETCH") for step in powerschool.steps)
        assert 2 <= fetches <= 8  # rows came in more than one batch a query
        ready.output.write_bytes(OLD)
        powerschool.fault = at("FETCH", wrong, after=fetches - 1)
        check_failed(ready, ready.run(), "ERROR reading the sections of school 100, term 3603: ")
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM schools", "PowerSchool shows no school. Have"),
        ("UPDATE schools SET state_excludefromreporting = 1", "PowerSchool shows no school. Have"),
        ("DELETE FROM sections", "PowerSchool shows no section. If sections are there"),
    ],
)
def test_nothing_to_export(
    ready: Job, quiet: PowerSchool, clever: Clever, sql: str, words: str
) -> None:
    district.change(quiet.database, sql)
    check_failed(ready, ready.run(), words)
    check_remote(clever, OLD)


def test_a_district_that_changes_while_it_is_read(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """It is exported as of one moment."""
    assert ready.run("--dry-run").status == 0
    before = ready.output.read_bytes()

    def fault(step: str) -> str | None:
        if "FROM terms" in step:
            moves = "UPDATE sections SET termid = 3600, expression = '9(A)'"
            district.change(quiet.database, f"{moves}; DELETE FROM sectionteacher")
        return None

    quiet.fault = fault
    check_uploaded(ready, ready.run(), clever)
    assert ready.output.read_bytes() == before
    quiet.fault = None
    assert ready.run("--dry-run", "--force").status == 0
    assert ready.output.read_bytes() != before


def test_a_byte_that_is_no_text(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    district.change(
        quiet.database,
        """
        UPDATE courses SET course_name = CAST(x'4369656EF141' AS TEXT) WHERE course_number = 'C3';
        UPDATE schools SET name = CAST(x'4AF16E' AS TEXT) WHERE id = 100;
        """,
    )
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "Cien\N{REPLACEMENT CHARACTER}A" in ready.output.read_text()
    assert "INFO a character that cannot be read: 1 section (101 C3.3)\n" in ended.log
    assert "INFO 100 J\N{REPLACEMENT CHARACTER}n: year" in ended.log


def test_log_off_is_refused(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    """All has been read by then."""
    quiet.fault = at("LOG OFF", DROP)
    ended = ready.run()
    assert ended.status == 0
    check_remote(clever, ready.output.read_bytes())
    check_clean(ready, ended)


# --- Two addresses for one host ---


def test_the_second_address_of_the_database(
    ready: Job, quiet: PowerSchool, clever: Clever, hosts: Hosts
) -> None:
    hosts.name("powerschool.test", "127.77.0.1", "127.0.0.1")
    with silent("127.77.0.1", quiet.port):
        ready.set(CONNECT_TIMEOUT_SECONDS=4)
        ready.environment["POWERSCHOOL_PROD_DB"] = f"powerschool.test:{quiet.port}/PSPROD"
        ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert attempts(ended) == 1
