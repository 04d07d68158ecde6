"""The database, fault by fault: no part of a file is written, and the message says why."""

import re
import shutil
import socket
import threading
from contextlib import suppress
from datetime import date
from pathlib import Path

import district
import oracledb
import pytest
from checks import OLD, check_attempts, check_failed, check_remote, check_uploaded
from clever import Clever
from conftest import Inside
from faults import BUSY, DEAF, DROP, ENDLESS, HALF, HANG, HUGE, TRICKLE, at, in_turn
from hosts import Hosts, silent, tls_server
from job import Ended, Job
from powerschool import ENCRYPTION, OLD_RELEASE, OLD_VERIFIER, PowerSchool

import clever_sections

CONNECTING = "ERROR connecting to PowerSchool: "
TODAY = date(2026, 11, 24)
# So that a busy machine, on which a step takes long, is not taken for a silent database.
PATIENT = {"CONNECT_TIMEOUT_SECONDS": 60, "QUERY_TIMEOUT_SECONDS": 60}


def attempts(ended: Ended) -> int:
    return ended.log.count("INFO attempt ") + 1


def failure_inside(inside: Inside, job: Job) -> clever_sections.Failure:
    """How connecting to the database fails, or reading it, in this process."""
    inside(job)
    with pytest.raises(clever_sections.Failure) as caught:
        clever_sections.read_powerschool(TODAY)
    return caught.value


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
            *("POWERSCHOOL_PROD_DB", "127.0.0.1:{closed}/PSPROD", "Connection refused"),
            *("Check host and port in POWERSCHOOL_PROD_DB", 3),
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
    ready.environment[variable] = value.format(closed=closed_port)
    ended = ready.set(**PATIENT).run()
    check_failed(ready, ended, CONNECTING, words, f". {advice}")
    check_remote(clever, OLD)
    assert attempts(ended) == tries


@pytest.mark.parametrize(
    ("variable", "value", "words", "advice", "is_final"),
    [
        # A password that is a word of a message.
        (
            *("POWERSCHOOL_DB_PASSWORD", "ORA-12514", "ORA-01017"),
            *("Check POWERSCHOOL_READ_USER and POWERSCHOOL_DB_PASSWORD", True),
        ),
        (
            *("POWERSCHOOL_READ_USER", "nobody", "ORA-01017"),
            *("Check POWERSCHOOL_READ_USER and POWERSCHOOL_DB_PASSWORD", True),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "127.0.0.1:{port}/OTHER", 'Service "..." is not registered'),
            *("Check the service's name at the end of POWERSCHOOL_PROD_DB", False),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "nowhere.invalid/PSPROD", "[Errno -"),
            *("Check the host's name in POWERSCHOOL_PROD_DB, and this machine's DNS", False),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "ps..example.org:1521/PSPROD", "idna"),
            *("Check the host's name in POWERSCHOOL_PROD_DB", True),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "no_such_alias", "DPY-4027"),
            *("Check the form of POWERSCHOOL_PROD_DB: host:1521/service", True),
        ),
        (
            *("POWERSCHOOL_PROD_DB", "(DESCRIPTION=(ADDRESS=(PROTOCOL=x)(HOST=a)))", "DPY-"),
            *("Check the form of POWERSCHOOL_PROD_DB: host:1521/service", True),
        ),
    ],
)
def test_what_connecting_says(
    inside: Inside,
    ready: Job,
    quiet: PowerSchool,
    variable: str,
    value: str,
    words: str,
    advice: str,
    is_final: bool,
) -> None:
    ready.environment[variable] = value.format(port=quiet.port)
    failure = failure_inside(inside, ready)
    assert str(failure).startswith("connecting to PowerSchool: ")
    assert words in str(failure)
    assert f". {advice}" in str(failure)
    assert failure.is_final == is_final


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


def test_connecting_succeeds_at_last(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    """What may pass is tried again, and each line says what to do if it does not."""
    faults = [
        ("CONNECT", DROP, ASK),
        ("LOG IN", DROP, ASK),
        ("PASSWORD", HALF, ASK),
        ("CONNECT", "ORA-12514: no such service", "Check the service's name"),
        ("CONNECT", "ORA-12528: blocked", "at another hour: this may be the time of the backup"),
        ("PASSWORD", "ORA-01033: ORACLE initialization or shutdown", "the time of the backup"),
    ]
    quiet.fault = in_turn(*(at(step, wrong) for step, wrong, _ in faults))
    ended = ready.set(CONNECT_ATTEMPTS=7, **PATIENT).run()
    check_uploaded(ready, ended, clever)
    check_attempts(ended, "connecting to PowerSchool: ", [words for *_, words in faults])
    assert connections(quiet) == 7
    assert len(quiet.log_ins) == 3


def test_a_locked_account_is_not_tried_again(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """A refusal of the account is final: another try could lock it."""
    quiet.fault = at("PASSWORD", "ORA-28000: The account is locked.")
    ended = ready.set(**PATIENT).run()
    check_failed(ready, ended, CONNECTING, "Have the account unlocked")
    check_remote(clever, OLD)
    assert attempts(ended) == connections(quiet) == len(quiet.log_ins) == 1


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ("ORA-28001: the account has expired", "Have the password changed"),
        ("ORA-20001: not from this host", "POWERSCHOOL_DB_PASSWORD, or ask who"),
        ("ORA-01045: user lacks CREATE SESSION", "or ask who runs the database"),
    ],
)
def test_a_refusal_of_the_account_is_final(
    inside: Inside, ready: Job, quiet: PowerSchool, refusal: str, words: str
) -> None:
    quiet.fault = at("PASSWORD", refusal)
    failure = failure_inside(inside, ready)
    assert str(failure).startswith(f"connecting to PowerSchool: {refusal}. ")
    assert words in str(failure)
    assert failure.is_final


@pytest.mark.takes_long
@pytest.mark.parametrize(
    "faults",
    [
        [("CONNECT", HANG), ("CONNECT", TRICKLE), ("PASSWORD", HANG)],
        [("LOG IN", DEAF), ("PASSWORD", ENDLESS), ("LOG IN", HUGE)],
    ],
)
def test_a_log_in_that_never_ends(
    ready: Job, quiet: PowerSchool, clever: Clever, faults: list[tuple[str, str]]
) -> None:
    """One setting bounds all of it, and the line names it; at each of three tries."""
    quiet.fault = in_turn(*(at(step, wrong) for step, wrong in faults))
    ended = ready.set(CONNECT_TIMEOUT_SECONDS=1.5).run()
    words = "no end within 1.5 seconds. "
    check_failed(ready, ended, f"{CONNECTING}{words}", "set CONNECT_TIMEOUT_SECONDS higher")
    check_attempts(ended, "connecting to PowerSchool: ", [words] * 2)
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("demand", "code", "advice"),
    [
        (ENCRYPTION, "DPY-3001", "cannot do Oracle's own encryption"),
        (OLD_RELEASE, "DPY-3010", "Ask for a newer database"),
        (OLD_VERIFIER, "DPY-3015", "have the same password set once more"),
    ],
)
def test_a_database_that_the_driver_cannot_talk_to(
    inside: Inside, ready: Job, quiet: PowerSchool, demand: str, code: str, advice: str
) -> None:
    quiet.demands = demand
    failure = failure_inside(inside, ready)
    assert str(failure).startswith("connecting to PowerSchool: ")
    assert code in str(failure)
    assert advice in str(failure)
    assert failure.is_final


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing")
def test_a_certificate_that_nobody_vouches_for(ready: Job, clever: Clever, tmp_path: Path) -> None:
    """A TLS server with a certificate of its own, as a hosted database has it."""
    with tls_server(tmp_path) as port:
        ready.environment["POWERSCHOOL_PROD_DB"] = f"tcps://127.0.0.1:{port}/PSPROD"
        ended = ready.set(**PATIENT).run()
    check_failed(ready, ended, CONNECTING, "?wallet_location=/")
    check_remote(clever, OLD)
    assert attempts(ended) == 1


def test_the_password_will_expire(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    quiet.warning = "ORA-28002: the password will expire within 7 days"
    ended = ready.set(**PATIENT).run()
    assert ended.status == 0
    assert ended.stderr == (
        f"WARNING PowerSchool says: {quiet.warning}. "
        "Have the password changed, and put it into POWERSCHOOL_DB_PASSWORD\n"
    )
    check_remote(clever, ready.output.read_bytes())


def test_the_account_will_expire(
    inside: Inside, ready: Job, quiet: PowerSchool, caplog: pytest.LogCaptureFixture
) -> None:
    quiet.warning = "ORA-28011: the account will expire soon; change your password now"
    inside(ready)
    clever_sections.read_powerschool(TODAY)
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.message == (
        f"PowerSchool says: {quiet.warning}. "
        "Have the password changed, and put it into POWERSCHOOL_DB_PASSWORD"
    )


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
    inside: Inside,
    ready: Job,
    quiet: PowerSchool,
    closed_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
) -> None:
    (tmp_path / "tnsnames.ora").write_text("")
    monkeypatch.setattr(oracledb.defaults, "config_dir", str(tmp_path))
    ready.environment["POWERSCHOOL_PROD_DB"] = address.format(
        closed=closed_port,
        port=quiet.port,
        password=quiet.password,
    )
    failure = failure_inside(inside, ready)
    assert str(failure).startswith("connecting to PowerSchool: ")
    for part in (quiet.password, "Short1", "Sho", "rt1", "short1"):
        assert part not in str(failure)


def test_the_words_of_a_connect_string_error_are_shown(ready: Job, quiet: PowerSchool) -> None:
    """Without the password that is in it, here and in the log."""
    ready.environment["POWERSCHOOL_PROD_DB"] = f"ps_read/{quiet.password}@127.0.0.1:1:2/b//"
    ended = ready.run()
    words = 'DPY-4018: cannot parse connect string "...". Check the form of POWERSCHOOL_PROD_DB'
    check_failed(ready, ended, CONNECTING, words)


# --- Reading ---


def test_a_table_is_forbidden(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    """The line names the setting for tables of another owner; another try cannot help."""
    ready.set(IGNORE_ZERO_ENROLLMENT_SECTIONS=True, **PATIENT)
    district.change(quiet.database, "DROP TABLE cc")
    ended = ready.run()
    reading = "the sections of school 100, term 3600"
    words = (f"ERROR reading {reading}: ORA-00942", ". Have SELECT granted", "TABLE_OWNER")
    check_failed(ready, ended, *words)
    check_remote(clever, OLD)
    assert attempts(ended) == connections(quiet) == 1


@pytest.mark.parametrize(
    ("table", "reading"),
    [
        ("schools", "the schools"),
        ("courses", "the courses"),
        ("terms", "the terms of school 100"),
        ("sections", "the sections of school 100, term 3600"),
    ],
)
def test_which_table_is_forbidden(
    inside: Inside, ready: Job, quiet: PowerSchool, table: str, reading: str
) -> None:
    district.change(quiet.database, f"DROP TABLE {table}")
    failure = failure_inside(inside, ready)
    assert str(failure).startswith(f"reading {reading}: ORA-00942")
    assert "TABLE_OWNER" in str(failure)
    assert failure.is_final


def test_a_column_that_is_not_there(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    ended = ready.set(TEACHER_ID_COLUMN="no_such_column", **PATIENT).run()
    check_failed(ready, ended, "ORA-00904", ". Check TEACHER_ID_COLUMN and PERIOD_COLUMN")
    check_remote(clever, OLD)
    assert attempts(ended) == 1


def test_courses_roles_and_teachers_are_read_once_and_first(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """Three queries, then one for the schools, each school's terms, and each term's sections.

    The table cc is not read unless it is needed.
    """
    district.change(quiet.database, "DROP TABLE cc")
    check_uploaded(ready, ready.set(**PATIENT).run(), clever)
    tables = [found for query in quiet.queries for found in re.findall(r"FROM (\w+)", query)[:1]]
    once = ["courses", "roledef", "teachers"]
    assert sorted(tables[:3]) == once
    assert tables[3:] == ["schools", *["terms", *["sections"] * 4] * 2]


def test_reading_is_tried_again_from_the_start(
    ready: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    """What the tries before have read is in the file once, and counts once. Each line says what
    was read."""
    faults = [
        (at("SET TRANSACTION", DROP), "PowerSchool: DPY-4011"),
        (at("FROM courses", HALF), "the courses: DPY-4011"),
        (at("FROM teachers", DROP), "the teachers: DPY-4011"),
        (at("FROM schools", "ORA-03113: end-of-file on communication channel"), "the schools: "),
        (
            at("FROM terms", "ORA-01555: snapshot too old"),
            "the terms of school 100: ORA-01555: snapshot too old. If it is so every night, run "
            "the job at another hour",
        ),
        (at("FROM terms", DROP, after=1), "the terms of school 101: DPY-4011"),
        (
            at("FROM terms", "ORA-02396: exceeded maximum idle time, please connect", after=1),
            "the terms of school 101: DPY-4011: ",
        ),
        (
            at("FROM sections", "ORA-02396: exceeded maximum idle time"),
            "the sections of school 100, term 3600: DPY-4011: ",
        ),
        (
            at("FROM sections", "ORA-01466: unable to read data - table has changed", after=1),
            "the sections of school 100, term 3601: ORA-01466",
        ),
        (at("FROM sections", DROP, after=1), "sections of school 100, term 3601: DPY-4011"),
        (at("FROM sections", HALF, after=7), "sections of school 101, term 3603: DPY-4011"),
    ]
    quiet.fault = in_turn(*(fault for fault, _ in faults))
    tries = len(faults) + 1
    ended = ready.set(CONNECT_ATTEMPTS=tries, **PATIENT).run()
    check_uploaded(ready, ended, clever)
    assert ready.output.read_bytes() == first_upload
    check_attempts(ended, "reading ", [words for _, words in faults])
    assert f"ORA-02396: exceeded maximum idle time. If it happens again, {ASK}" in ended.log
    assert connections(quiet) == len(quiet.log_ins) == tries


def test_reading_fails_three_times(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    quiet.fault = at("FROM sections", DROP)
    ended = ready.set(**PATIENT).run()
    check_failed(ready, ended, "ERROR reading the sections of school 100, term 3600: DPY-4011")
    check_remote(clever, OLD)
    assert (attempts(ended), connections(quiet), len(quiet.log_ins)) == (3, 3, 3)


@pytest.mark.takes_long
def test_the_database_does_not_answer(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    quiet.fault = in_turn(at("SELECT", HANG), at("SELECT", BUSY))
    limits = {"CONNECT_TIMEOUT_SECONDS": 60, "QUERY_TIMEOUT_SECONDS": 1.5}
    ended = ready.set(CONNECT_ATTEMPTS=2, **limits).run()
    check_attempts(ended, "reading the courses: DPY-4011", ["timed out"])
    words = ("ERROR reading the courses: DPY-4024", "set QUERY_TIMEOUT_SECONDS higher")
    check_failed(ready, ended, *words)
    check_remote(clever, OLD)


@pytest.mark.takes_long
@pytest.mark.parametrize(
    "faults",
    [
        [("SET TRANSACTION", TRICKLE), ("FROM courses", HANG), ("FROM sections", TRICKLE)],
        [("FROM sections", DEAF), ("FROM sections", ENDLESS), ("FROM sections", HUGE)],
    ],
)
def test_reading_never_ends(
    ready: Job, quiet: PowerSchool, clever: Clever, faults: list[tuple[str, str]]
) -> None:
    """One setting bounds all of a try, here each of three; it takes fractions of a minute."""
    quiet.fault = in_turn(*(at(step, wrong) for step, wrong in faults))
    ended = ready.set(**PATIENT | {"TRY_TIMEOUT_MINUTES": 0.025}).run()
    words = "reading PowerSchool: no end within 1.5 seconds."
    check_failed(ready, ended, f"ERROR {words}", "set TRY_TIMEOUT_MINUTES higher")
    check_attempts(ended, words, ["higher"] * 2)
    check_remote(clever, OLD)


def test_a_server_that_announces_four_gigabytes(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """The driver would fill this machine's memory with them."""
    quiet.fault = at("CONNECT", HUGE)
    ended = ready.set(CONNECT_ATTEMPTS=1, **PATIENT).run()
    check_failed(ready, ended, CONNECTING, "DPY-6005")
    check_remote(clever, OLD)


@pytest.mark.takes_long
def test_a_farewell_that_never_ends(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    """All has been read by then, so nothing is lost."""
    quiet.fault = at("LOG OFF", TRICKLE)
    check_uploaded(ready, ready.set(CONNECT_TIMEOUT_SECONDS=4).run(), clever)


@pytest.mark.takes_long
@pytest.mark.parametrize(
    "wrong", [HANG, DROP, HALF, "ORA-03113: end-of-file on communication channel"]
)
def test_log_off_fails(inside: Inside, ready: Job, quiet: PowerSchool, wrong: str) -> None:
    """All has been read by then."""
    quiet.fault = at("LOG OFF", wrong)
    inside(ready)
    assert len(clever_sections.read_powerschool(TODAY).sections) == 20
    assert quiet.steps[-1] == "LOG OFF"


def test_a_later_batch_of_many_rows_fails(
    ready: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
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
    quiet.fault = in_turn(at("FETCH", DROP), at("FETCH", HALF))
    ended = ready.set(**PATIENT).run()
    check_uploaded(ready, ended, clever)
    assert ready.output.read_bytes() == first_upload
    check_attempts(ended, "reading the sections of school 100, term 3602: ", ["DPY-4011"] * 2)


def test_nothing_to_export(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    district.change(quiet.database, "UPDATE schools SET state_excludefromreporting = 1")
    check_failed(ready, ready.set(**PATIENT).run(), "PowerSchool shows no school. Look at")
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM schools", "PowerSchool shows no school. Look at"),
        ("DELETE FROM sections", "PowerSchool shows no section. Look at"),
    ],
)
def test_an_empty_table(
    inside: Inside, ready: Job, quiet: PowerSchool, sql: str, words: str
) -> None:
    district.change(quiet.database, sql)
    inside(ready)
    found = clever_sections.read_powerschool(TODAY)
    with pytest.raises(clever_sections.Failure, match=words):
        clever_sections.check_district(found)


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


def test_a_date_that_is_none(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    """The line says where to look; another try would meet it again."""
    sql = "UPDATE sectionteacher SET start_date = '2026-00-17 00:00:00' WHERE sectionid = 8"
    district.change(quiet.database, sql)
    ended = ready.set(**PATIENT).run()
    words = "ERROR reading the sections of school 100, term 3600: month"
    check_failed(ready, ended, words, ". Look there for a date that is none")
    check_remote(clever, OLD)
    assert attempts(ended) == connections(quiet) == 1


@pytest.mark.parametrize(
    ("sql", "reading"),
    [
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
def test_where_a_date_is_none(
    inside: Inside, ready: Job, quiet: PowerSchool, sql: str, reading: str
) -> None:
    district.change(quiet.database, sql)
    failure = failure_inside(inside, ready)
    assert str(failure).startswith(f"reading {reading}")
    assert str(failure).endswith(". Look there for a date that is none")
    assert failure.is_final


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


def test_tables_of_another_owner(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    quiet.synonyms = False
    check_uploaded(ready, ready.set(TABLE_OWNER="ps", **PATIENT).run(), clever)


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
