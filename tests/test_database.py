"""The database, fault by fault: no part of a file is written, and the message says why."""

import re
import shutil
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import district
import pytest
from checks import OLD, check_failed, check_remote, check_uploaded
from clever import Clever
from faults import BUSY, DEAF, DROP, ENDLESS, HALF, HANG, HUGE, TRICKLE, at
from hosts import Hosts, silent, tls_server
from job import Ended, Job
from powerschool import ENCRYPTION, OLD_RELEASE, OLD_VERIFIER, PowerSchool

CONNECTING = "ERROR connecting to PowerSchool: "
# So that a busy machine, on which a step takes long, is not taken for a silent database.
PATIENT = {"CONNECT_TIMEOUT_SECONDS": 60, "QUERY_TIMEOUT_SECONDS": 60}


def attempts(ended: Ended) -> int:
    return ended.log.count("INFO attempt ") + 1


def connections(powerschool: PowerSchool) -> int:
    return powerschool.steps.count("CONNECT")


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
            *("POWERSCHOOL_PROD_DB", "127.0.0.1:{port}/OTHER", 'Service "..." is not registered'),
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
    ended = ready.set(**PATIENT).run()
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
        ended = ready.set(CONNECT_TIMEOUT_SECONDS=1, CONNECT_ATTEMPTS=1).run()
    check_failed(ready, ended, CONNECTING)
    check_remote(clever, OLD)


ASK = "show this line to whoever runs PowerSchool's database"


@pytest.mark.parametrize(
    ("step", "wrong", "words", "tries"),
    [
        ("CONNECT", DROP, ASK, 3),
        ("PASSWORD", HALF, ASK, 3),
        ("CONNECT", "ORA-12514: no such service", "Check the service's name", 3),
        ("CONNECT", "ORA-12528: blocked", "at another hour: this may be the time of the backup", 3),
        (
            "PASSWORD",
            "ORA-01033: ORACLE initialization or shutdown in progress",
            "time of the backup",
            3,
        ),
        ("PASSWORD", "ORA-28000: The account is locked.", "Have the account unlocked", 1),
        ("PASSWORD", "ORA-28001: the account has expired", "Have the password changed", 1),
        ("PASSWORD", "ORA-20001: not from this host", "POWERSCHOOL_DB_PASSWORD, or ask who", 1),
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
    """A refusal of the account is final: another try could lock it."""
    quiet.fault = at(step, wrong)
    ended = ready.set(**PATIENT).run()
    check_failed(ready, ended, CONNECTING, words)
    check_remote(clever, OLD)
    assert attempts(ended) == connections(quiet) == tries
    assert len(quiet.log_ins) == (tries if step == "PASSWORD" else 0)


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ("CONNECT", HANG),
        ("CONNECT", TRICKLE),
        ("LOG IN", DEAF),
        ("LOG IN", HUGE),
        ("PASSWORD", HANG),
        ("PASSWORD", ENDLESS),
    ],
)
def test_a_log_in_that_never_ends(
    ready: Job, quiet: PowerSchool, clever: Clever, step: str, wrong: str
) -> None:
    """One setting bounds all of it, and the line names it."""
    quiet.fault = at(step, wrong)
    ended = ready.set(CONNECT_TIMEOUT_SECONDS=1.5, CONNECT_ATTEMPTS=1).run()
    words = (CONNECTING, "no end within 1.5 seconds", "set CONNECT_TIMEOUT_SECONDS higher")
    check_failed(ready, ended, *words)
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ("CONNECT", DROP),
        ("LOG IN", DROP),
        ("PASSWORD", HALF),
        ("PASSWORD", "ORA-01033: ORACLE initialization or shutdown in progress"),
    ],
)
def test_connecting_succeeds_the_third_time(
    ready: Job, quiet: PowerSchool, clever: Clever, step: str, wrong: str
) -> None:
    quiet.fault = at(step, wrong, times=2)
    ended = ready.set(**PATIENT).run()
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
    check_uploaded(ready, ready.set(RETRY_DELAY_SECONDS=1, **PATIENT).run(), clever)
    assert tries[1] - tries[0] >= 1


@pytest.mark.parametrize(
    ("demand", "code", "advice"),
    [
        (ENCRYPTION, "DPY-3001", "cannot do Oracle's own encryption"),
        (OLD_RELEASE, "DPY-3010", "older than Oracle 12.1"),
        (OLD_VERIFIER, "DPY-3015", "Have the same one set once more"),
    ],
)
def test_a_database_that_the_driver_cannot_talk_to(
    ready: Job, quiet: PowerSchool, clever: Clever, demand: str, code: str, advice: str
) -> None:
    quiet.demands = demand
    ended = ready.set(**PATIENT).run()
    check_failed(ready, ended, CONNECTING, code, advice)
    check_remote(clever, OLD)
    assert attempts(ended) == 1


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing")
def test_a_certificate_that_nobody_vouches_for(ready: Job, clever: Clever, tmp_path: Path) -> None:
    """A TLS server with a certificate of its own, as a hosted database has it."""
    with tls_server(tmp_path) as port:
        ready.environment["POWERSCHOOL_PROD_DB"] = f"tcps://127.0.0.1:{port}/PSPROD"
        ended = ready.set(**PATIENT).run()
    check_failed(ready, ended, CONNECTING, "?wallet_location=/")
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
    ended = ready.set(**PATIENT).run()
    assert ended.status == 0
    assert ended.stderr == (
        f"WARNING PowerSchool says: {warning}. "
        "Have the password changed, and put it into POWERSCHOOL_DB_PASSWORD\n"
    )
    check_remote(clever, ready.output.read_bytes())


@pytest.mark.parametrize(
    "address",
    [
        "ps_read/{password}@127.0.0.1:1:2/b//",
        "ps_read/Short1@127.0.0.1:{closed}/PSPROD",
        "127.0.0.1:{closed}/PSPROD?wallet_password=Short1&retry=x y",
        "(DESCRIPTION=(SECURITY=(WALLET_PASSWORD=Short1))(ADDRESS=(PORT=x)))",
        "ps_read/Sho/rt1@127.0.0.1:{closed}/PSPROD",
        'ps_read/Sho"rt1@127.0.0.1:{closed}/PSPROD',
        "ps_read/Short1 host:1521",
        "127.0.0.1:{port}/Short1",
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
    )
    ended = ready.set(CONNECT_ATTEMPTS=1, **PATIENT).run()
    check_failed(ready, ended, CONNECTING)
    for part in (quiet.password, "Short1", "Sho", "rt1", "short1"):
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
        ("schools", "the schools"),
        ("courses", "the courses"),
        ("terms", "the terms of school 100"),
        ("sections", "the sections of school 100, term 3600"),
        ("cc", "the sections of school 100, term 3600"),
    ],
)
def test_a_table_is_forbidden(
    ready: Job, quiet: PowerSchool, clever: Clever, table: str, reading: str
) -> None:
    """The line names the setting for tables of another owner; another try cannot help."""
    ready.set(IGNORE_ZERO_ENROLLMENT_SECTIONS=True, **PATIENT)
    district.change(quiet.database, f"DROP TABLE {table}")
    ended = ready.run()
    words = (f"ERROR reading {reading}: ORA-00942", ". Have SELECT granted", "TABLE_OWNER")
    check_failed(ready, ended, *words)
    check_remote(clever, OLD)
    assert attempts(ended) == connections(quiet) == 1


def test_cc_is_not_read_unless_it_is_needed(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    district.change(quiet.database, "DROP TABLE cc")
    check_uploaded(ready, ready.set(**PATIENT).run(), clever)


def test_a_column_that_is_not_there(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    ended = ready.set(TEACHER_ID_COLUMN="no_such_column", **PATIENT).run()
    check_failed(ready, ended, "ORA-00904", ". Check TEACHER_ID_COLUMN and PERIOD_COLUMN")
    check_remote(clever, OLD)
    assert attempts(ended) == 1


def test_courses_roles_and_teachers_are_read_once_and_first(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """Three queries, then one for the schools, each school's terms, and each term's sections."""
    check_uploaded(ready, ready.set(**PATIENT).run(), clever)
    tables = [found for query in quiet.queries for found in re.findall(r"FROM (\w+)", query)[:1]]
    once = ["courses", "roledef", "teachers"]
    assert sorted(tables[:3]) == once
    assert tables[3:] == ["schools", *["terms", *["sections"] * 4] * 2]


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ("SET TRANSACTION", DROP),
        ("FROM courses", HALF),
        ("FROM terms", "ORA-02396: exceeded maximum idle time, please connect again"),
        ("FROM schools", "ORA-03113: end-of-file on communication channel"),
        ("FROM sections", "ORA-01466: unable to read data - table definition has changed"),
        ("FROM sections", DROP),
    ],
)
def test_reading_is_tried_again_from_the_start(
    ready: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes, step: str, wrong: str
) -> None:
    """What the tries before have read is in the file once, and counts once."""
    quiet.fault = at(
        step, wrong, times=2, after=1 if step in ("FROM terms", "FROM sections") else 0
    )
    ended = ready.set(**PATIENT).run()
    check_uploaded(ready, ended, clever)
    assert ready.output.read_bytes() == first_upload
    assert (attempts(ended), connections(quiet), len(quiet.log_ins)) == (3, 3, 3)


@pytest.mark.parametrize(
    ("step", "after", "wrong", "words"),
    [
        ("SET TRANSACTION", 0, DROP, ("reading PowerSchool: DPY-4011",)),
        ("FROM teachers", 0, DROP, ("reading the teachers: DPY-4011",)),
        ("FROM terms", 1, DROP, ("reading the terms of school 101: DPY-4011",)),
        ("FROM sections", 7, HALF, ("the sections of school 101, term 3603: DPY-4011",)),
        (
            *("FROM terms", 0, "ORA-01555: snapshot too old"),
            ("school 100: ORA-01555: snapshot too old", "run the job at another hour"),
        ),
        (
            *("FROM sections", 0, "ORA-02396: exceeded maximum idle time"),
            ("reading the sections of school 100, term 3600: ", "ORA-02396", ASK),
        ),
    ],
)
def test_reading_fails(
    ready: Job,
    quiet: PowerSchool,
    clever: Clever,
    step: str,
    after: int,
    wrong: str,
    words: tuple[str, ...],
) -> None:
    """The line says what was read."""
    quiet.fault = at(step, wrong, after=after)
    ended = ready.set(CONNECT_ATTEMPTS=1, **PATIENT).run()
    check_failed(ready, ended, "ERROR reading ", *words)
    check_remote(clever, OLD)


def test_reading_fails_three_times(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    quiet.fault = at("FROM sections", DROP)
    ended = ready.set(**PATIENT).run()
    check_failed(ready, ended, "ERROR reading the sections of school 100, term 3600: DPY-4011")
    check_remote(clever, OLD)
    assert (attempts(ended), connections(quiet), len(quiet.log_ins)) == (3, 3, 3)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(BUSY, ("DPY-4024", "set QUERY_TIMEOUT_SECONDS higher")), (HANG, ("DPY-4011", "timed out"))],
)
def test_the_database_does_not_answer(
    ready: Job, quiet: PowerSchool, clever: Clever, wrong: str, words: tuple[str, ...]
) -> None:
    quiet.fault = at("SELECT", wrong)
    limits = {"CONNECT_TIMEOUT_SECONDS": 60, "QUERY_TIMEOUT_SECONDS": 1.5}
    ended = ready.set(CONNECT_ATTEMPTS=1, **limits).run()
    check_failed(ready, ended, "ERROR reading ", *words)
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ("SET TRANSACTION", TRICKLE),
        ("FROM courses", HANG),
        ("FROM sections", TRICKLE),
        ("FROM sections", DEAF),
        ("FROM sections", ENDLESS),
        ("FROM sections", HUGE),
    ],
)
def test_reading_never_ends(
    ready: Job, quiet: PowerSchool, clever: Clever, step: str, wrong: str
) -> None:
    """One setting bounds all of a try; it takes fractions of a minute."""
    quiet.fault = at(step, wrong)
    limits = PATIENT | {"TRY_TIMEOUT_MINUTES": 0.025}
    ended = ready.set(CONNECT_ATTEMPTS=1, **limits).run()
    words = "ERROR reading PowerSchool: no end within 1.5 seconds."
    check_failed(ready, ended, words, "set TRY_TIMEOUT_MINUTES higher")
    check_remote(clever, OLD)


def test_a_server_that_announces_four_gigabytes(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """The driver would fill this machine's memory with them."""
    quiet.fault = at("CONNECT", HUGE)
    ended = ready.set(CONNECT_ATTEMPTS=1, **PATIENT).run()
    check_failed(ready, ended, CONNECTING, "DPY-6005")
    check_remote(clever, OLD)


@pytest.mark.parametrize("wrong", [TRICKLE, HANG, DROP])
def test_a_farewell_that_never_ends(
    ready: Job, quiet: PowerSchool, clever: Clever, wrong: str
) -> None:
    """All has been read by then, so nothing is lost."""
    quiet.fault = at("LOG OFF", wrong)
    check_uploaded(ready, ready.set(CONNECT_TIMEOUT_SECONDS=4).run(), clever)


@pytest.mark.parametrize("wrong", [DROP, HALF])
def test_a_later_batch_of_many_rows_fails(
    ready: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes, wrong: str
) -> None:
    """A section whose teacher is assigned 60,000 times takes more than one batch."""
    district.change(
        quiet.database,
        """
        WITH RECURSIVE numbers(n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM numbers LIMIT 60000)
        INSERT INTO sectionteacher
        SELECT n, sectionid, teacherid, roleid, NULL, NULL FROM sectionteacher, numbers
        WHERE sectionid = 4;
        """,
    )
    quiet.fault = at("FETCH", wrong, times=1)
    ended = ready.set(**PATIENT).run()
    check_uploaded(ready, ended, clever)
    assert ready.output.read_bytes() == first_upload
    assert "INFO attempt 1: reading the sections of school 100, term 3602: " in ended.log


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM schools", "PowerSchool shows no school. Look at"),
        (
            "UPDATE schools SET state_excludefromreporting = 1",
            "PowerSchool shows no school. Look at",
        ),
        ("DELETE FROM sections", "PowerSchool shows no section. Look at"),
    ],
)
def test_nothing_to_export(
    ready: Job, quiet: PowerSchool, clever: Clever, sql: str, words: str
) -> None:
    district.change(quiet.database, sql)
    check_failed(ready, ready.set(**PATIENT).run(), words)
    check_remote(clever, OLD)


def test_a_district_that_changes_while_it_is_read(
    ready: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    """It is exported as of one moment."""

    def fault(step: str) -> str | None:
        if "FROM terms" in step:
            moves = "UPDATE sections SET termid = 3600, expression = '9(A)'"
            district.change(quiet.database, f"{moves}; DELETE FROM sectionteacher")
        return None

    quiet.fault = fault
    check_uploaded(ready, ready.set(**PATIENT).run(), clever)
    assert ready.output.read_bytes() == first_upload
    quiet.fault = None
    assert ready.run("--dry-run", "--force").status == 0
    assert ready.output.read_bytes() != first_upload


@pytest.mark.parametrize("wrong", [DROP, HALF, "ORA-03113: end-of-file on communication channel"])
def test_log_off_fails(ready: Job, quiet: PowerSchool, clever: Clever, wrong: str) -> None:
    """All has been read by then."""
    quiet.fault = at("LOG OFF", wrong)
    check_uploaded(ready, ready.set(**PATIENT).run(), clever)


# --- Values that are none ---


def test_a_date_before_the_year_1_is_no_date(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """Python could not hold it. Those who are assigned stay, and a term has its year's dates."""
    district.change(
        quiet.database,
        """
        UPDATE sectionteacher
        SET start_date = '0000-08-17 00:00:00', end_date = '-0044-03-15 00:00:00';
        UPDATE terms SET firstday = '-4712-01-01 00:00:00', lastday = '0000-12-18 00:00:00'
        WHERE id = 3603;
        """,
    )
    check_uploaded(ready, ready.set(**PATIENT).run(), clever)
    content = ready.output.read_text()
    assert ",08/17/2026,06/04/2027,Q2 26-27\n" in content
    assert "101,1,5001,5002," in content


@pytest.mark.parametrize(
    ("sql", "reading"),
    [
        (
            "UPDATE sectionteacher SET start_date = '2026-00-17 00:00:00' WHERE sectionid = 8",
            "the sections of school 100, term 3600: month",
        ),
        (
            "UPDATE sectionteacher SET end_date = '2026-11-00 00:00:00' WHERE sectionid = 7",
            "the sections of school 101, term 3603: day",
        ),
        (
            "UPDATE terms SET firstday = '2026-13-17 00:00:00' WHERE schoolid = 101",
            "the terms of school 101: month",
        ),
        (
            "UPDATE terms SET lastday = '2027-02-30 00:00:00' WHERE schoolid = 101",
            "the terms of school 101: day",
        ),
    ],
)
def test_a_date_that_is_none(
    ready: Job, quiet: PowerSchool, clever: Clever, sql: str, reading: str
) -> None:
    """The line says where to look; another try would meet it again."""
    district.change(quiet.database, sql)
    ended = ready.set(**PATIENT).run()
    check_failed(ready, ended, f"ERROR reading {reading}", ". Look there for a date that is none")
    check_remote(clever, OLD)
    assert attempts(ended) == connections(quiet) == 1


# "Cien", then half of a character, in the character set of the column's type.
CUT = {"VARCHAR2": "CAST(x'4369656EC3' AS TEXT)", "NVARCHAR2": "x'004300690065006ED8'"}


@pytest.mark.parametrize("kind", ["VARCHAR2", "NVARCHAR2"])
def test_a_text_that_is_cut_inside_a_character(
    ready: Job, quiet: PowerSchool, clever: Clever, kind: str
) -> None:
    """In each text that is read, what is left of the character becomes a replacement character."""
    cut = CUT[kind]
    district.change(
        quiet.database,
        f"""
        PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = REPLACE(sql, 'VARCHAR2', '{kind}');
        PRAGMA writable_schema = RESET;
        UPDATE schools SET name = {cut} WHERE id = 100;
        UPDATE courses SET course_name = {cut}, credittype = {cut} WHERE course_number = 'C3';
        UPDATE courses SET course_number = {cut} WHERE course_number = 'C150';
        UPDATE roledef SET name = {cut}, rolekey = {cut} WHERE id = {district.AIDE};
        UPDATE teachers SET email_addr = {cut};
        UPDATE terms SET abbreviation = {cut} WHERE id = 3601;
        UPDATE sections SET section_number = {cut}, expression = {cut} WHERE id = 3;
        UPDATE sections SET course_number = {cut} WHERE id = 4;
        """,
    )
    ready.set(IGNORED_ROLES={"Nobody"}, IGNORE_TEACHERS_WITHOUT_EMAILS=True, **PATIENT)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    rows = [line.split(",") for line in ready.output.read_text().splitlines()]
    read = "Cien\N{REPLACEMENT CHARACTER}"
    assert [row[12:16] for row in rows if row[1] == "3"] == [[read, "C3", read, read]]
    assert [row[13] for row in rows if row[1] == "4"] == [read]
    assert {row[-1] for row in rows} >= {f"{read} 26-27", "Q2 26-27"}
    assert f"school 1 of 2: 100 {read}, 4 terms" in ended.log
    assert "INFO a character that cannot be read: " in ended.log


# --- TABLE_OWNER ---


@pytest.mark.parametrize("owner", ["PS", "ps"])
def test_tables_of_another_owner(
    ready: Job, quiet: PowerSchool, clever: Clever, owner: str
) -> None:
    quiet.synonyms = False
    check_uploaded(ready, ready.set(TABLE_OWNER=owner, **PATIENT).run(), clever)


@pytest.mark.parametrize(
    ("owner", "code", "advice"),
    [
        ("", "ORA-00942", "set TABLE_OWNER if it has no synonyms"),
        ("nobody", "ORA-01435", "Check TABLE_OWNER"),
    ],
)
def test_tables_that_are_not_found_without_their_owner(
    ready: Job, quiet: PowerSchool, clever: Clever, owner: str, code: str, advice: str
) -> None:
    quiet.synonyms = False
    ended = ready.set(TABLE_OWNER=owner, **PATIENT).run()
    check_failed(ready, ended, "ERROR reading ", code, advice)
    check_remote(clever, OLD)
    assert attempts(ended) == connections(quiet) == 1


# --- Two addresses for one host ---


def test_the_second_address_of_the_database(
    ready: Job, quiet: PowerSchool, clever: Clever, hosts: Hosts
) -> None:
    hosts.name("powerschool.test", "127.77.0.1", "127.0.0.1")
    with silent("127.77.0.1", quiet.port):
        ready.set(CONNECT_TIMEOUT_SECONDS=10)  # a quarter of it for each address
        ready.environment["POWERSCHOOL_PROD_DB"] = f"powerschool.test:{quiet.port}/PSPROD"
        ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert attempts(ended) == 1
