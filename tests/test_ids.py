"""The ids that Clever knows: what Clever would refuse is said, and too much of it is held back."""

import os

import district
import pytest
from checks import OLD, check_clean, check_remote, new_file
from clever import Clever
from faults import DROP, HANG, SLOW, at
from job import Ended, Job
from line import Line
from powerschool import PowerSchool

SCHOOLS = ["100", "101"]
TEACHERS = [str(5000 + number) for number in range(40)]
NOT_COMPARED = "INFO ids are not compared with Clever's "


def put_files(
    clever: Clever,
    schools: list[str] = SCHOOLS,
    teachers: list[str] = TEACHERS,
) -> None:
    """The district's other files in Clever's folder."""
    rows = "".join(f"{school},School {school}\n" for school in schools)
    (clever.folder / "schools.csv").write_text(f"School_id,School_name\n{rows}")
    rows = "".join(f"100,{teacher},x@example.org\n" for teacher in teachers)
    (clever.folder / "teachers.csv").write_text(f"School_id,Teacher_id,Teacher_email\n{rows}")


def check_uploaded(job: Job, ended: Ended, clever: Clever) -> None:
    """Uploaded without a mail; the other files in Clever are as they were, and not stored again."""
    assert (ended.status, ended.stderr) == (0, "")
    others = [path.name for path in clever.files() if "ections" not in path.name]
    check_remote(clever, new_file(job), *others)
    assert {name for name, _ in clever.stored} == {"Sections.csv.tmp"}
    check_clean(job, ended)


def check_held(job: Job, ended: Ended, clever: Clever, words: str) -> None:
    assert (ended.status, ended.stderr) == (1, f"ERROR {words}\n")
    assert f"ERROR {words}\n" in ended.log
    others = [path.name for path in clever.files() if "ections" not in path.name]
    check_remote(clever, OLD, *others)
    assert clever.stored == []
    assert not job.uploaded.exists()
    check_clean(job, ended)


def test_all_ids_are_known(ready: Job, clever: Clever) -> None:
    put_files(clever)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "not in Clever's" not in ended.log
    assert NOT_COMPARED not in ended.log
    # A listing (which is two requests and its end) and two reads, over the same connection.
    assert clever.steps.count("LOG IN") == 1
    assert clever.steps.count("LIST .") == 3
    for name in ("schools.csv", "teachers.csv"):
        assert clever.steps.count(f"OPEN {name} to read") == 1
    assert clever.steps.index("READ teachers.csv") < clever.steps.index("REMOVE Sections.csv.tmp")


def test_some_lead_teachers_are_not_known(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=[t for t in TEACHERS if t not in ("5003", "5004")])
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    remark = "lead teacher not in Clever's teachers file: 2 sections (100 C4.4, 101 C3.3)\n"
    assert f"INFO {remark}" in ended.log
    seen = ready.run("--verbose").stderr
    assert f"INFO {remark}" in seen


def test_a_co_teacher_who_is_not_known_is_no_matter(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=[t for t in TEACHERS if t != "5021"])
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "not in Clever's" not in ended.log


def test_a_wrong_column_at_the_first_upload(ready: Job, clever: Clever) -> None:
    put_files(clever)
    ready.set(TEACHER_ID_COLUMN="teachernumber")
    words = (
        "Clever would refuse 20 of 20 sections that have not ended "
        "(lead teacher not in Clever's teachers file: 20). "
        "Look at TEACHER_ID_COLUMN, or the teachers file; --force uploads anyway"
    )
    check_held(ready, ready.run(), clever, words)
    forced = ready.run("--force")
    check_uploaded(ready, forced, clever)
    assert "INFO lead teacher not in Clever's teachers file: 20 sections (" in forced.log


def test_a_school_that_clever_does_not_know(ready: Job, clever: Clever) -> None:
    put_files(clever, schools=["100"])
    words = (
        "Clever would refuse 10 of 20 sections that have not ended "
        "(school not in Clever's schools file: 10). "
        "Look at IGNORED_SCHOOLS, or the schools file; --force uploads anyway"
    )
    check_held(ready, ready.run(), clever, words)
    ready.set(IGNORED_SCHOOLS={101})
    assert ready.run().status == 0


def test_a_section_that_lacks_both_counts_once(ready: Job, clever: Clever) -> None:
    put_files(clever, schools=["100"], teachers=["5002"])
    ended = ready.run()
    assert "ERROR Clever would refuse 19 of 20 sections that have not ended (" in ended.stderr
    assert "lead teacher not in Clever's teachers file: 19" in ended.stderr
    assert "school not in Clever's schools file: 10" in ended.stderr
    assert "Look at IGNORED_SCHOOLS, or the schools file; TEACHER_ID_COLUMN" in ended.stderr


def test_the_limit_is_max_lost(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=[t for t in TEACHERS if t not in ("5003", "5004", "5005")])
    ended = ready.run()
    assert "ERROR Clever would refuse 3 of 20 sections that have not ended (" in ended.stderr
    check_uploaded(ready, ready.set(MAX_LOST=0.15).run(), clever)


def test_sections_that_are_over_do_not_count(ready: Job, clever: Clever) -> None:
    """Ten of the sections end on 2026-12-18; only their lead teachers are not known."""
    over = [number for number in range(1, 21) if number // 2 % 4 in (1, 3)]
    put_files(clever, teachers=[t for t in TEACHERS if int(t) - 5000 not in over])
    ended = ready.run("--date", "2026-12-18")
    assert "ERROR Clever would refuse 10 of 20 sections that have not ended (" in ended.stderr
    ready.log.unlink()
    ended = ready.run("--date", "2026-12-19")
    check_uploaded(ready, ended, clever)
    assert "not in Clever's" not in ended.log


def test_sections_without_staff_have_a_remark_of_their_own(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    put_files(clever)
    district.change(quiet.database, "DELETE FROM sectionteacher WHERE sectionid <= 9")
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "INFO no staff, Clever refuses it: 9 sections (" in ended.log
    assert "not in Clever's" not in ended.log


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("Teachers.csv", "Teacher_id\n{ids}"),
        ("TEACHERS.CSV", "School_id,TEACHER ID\n{rows}"),
        ("teachers.csv", "school id,teacher id\r\n{rows}"),
        ("teachers.csv", '"School_id","Teacher_id"\n{quoted}'),
        ("teachers.csv", "\N{ZERO WIDTH NO-BREAK SPACE}Teacher_id\n{ids}"),
        ("teachers.csv", " Teacher_Id , x\n{blanks}"),
        ("teachers.csv", "School_id,Teacher_id\r{rows}"),
    ],
)
def test_forms_of_the_file(ready: Job, clever: Clever, name: str, content: str) -> None:
    known = [teacher for teacher in TEACHERS if teacher != "5003"]
    text = content.format(
        ids="".join(f"{teacher}\n" for teacher in known),
        rows="".join(f"100,{teacher}\n" for teacher in known),
        quoted="".join(f'"100","{teacher}"\n' for teacher in known),
        blanks="".join(f"  {teacher} ,x\n" for teacher in known),
    )
    if "\r{" in content:
        text = text.replace("\n", "\r")
    elif "\r\n" in content:
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    (clever.folder / name).write_bytes(text.encode())
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    remark = "INFO lead teacher not in Clever's teachers file: 1 section (101 C3.3)\n"
    assert remark in ended.log


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "teachers.csv: there is none"),
        (b"", "teachers.csv: it has no columns Teacher_id"),
        (b"Name,Email\nx,y\n", "teachers.csv: it has no columns Teacher_id"),
        (b"\x89PNG\r\n\x1a\n\0\0\xff\xfe\xfa" * 99, "teachers.csv: it has no columns Teacher_id"),
    ],
)
def test_a_file_that_cannot_be_compared(
    ready: Job, clever: Clever, content: bytes | None, words: str
) -> None:
    put_files(clever, schools=["100", "101"])
    (clever.folder / "teachers.csv").unlink()
    if content is not None:
        (clever.folder / "teachers.csv").write_bytes(content)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert f"{NOT_COMPARED}{words}\n" in ended.log
    assert f"{NOT_COMPARED}schools" not in ended.log


def test_reading_is_refused(ready: Job, clever: Clever) -> None:
    """As Clever's server does for some accounts."""
    put_files(clever, schools=[], teachers=[])
    clever.fault = at("OPEN (schools|teachers)", "not supported")
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert f"{NOT_COMPARED}schools.csv: not supported\n" in ended.log
    assert f"{NOT_COMPARED}teachers.csv: not supported\n" in ended.log
    assert clever.steps.count("LOG IN") == 1


def test_listing_is_refused(ready: Job, clever: Clever) -> None:
    put_files(clever, schools=[], teachers=[])
    clever.fault = at("LIST", "Permission denied")
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert f"{NOT_COMPARED}other files: [Errno 13] Permission denied\n" in ended.log
    assert clever.steps.count("LOG IN") == 1


@pytest.mark.parametrize("wrong", [HANG, DROP])
@pytest.mark.parametrize("where", ["LIST", "OPEN schools", "READ teachers"])
def test_a_stall_is_no_failed_upload(ready: Job, clever: Clever, where: str, wrong: str) -> None:
    put_files(clever)
    clever.fault = at(where, wrong)
    ended = ready.set(CONNECT_ATTEMPTS=1).run()
    check_uploaded(ready, ended, clever)
    name = "other files" if where == "LIST" else f"{where.split()[1]}.csv"
    assert f"{NOT_COMPARED}{name}: " in ended.log
    assert "attempt" not in ended.log
    assert clever.steps.count("LOG IN") == 2
    assert ended.seconds < 12


def test_a_slow_answer_is_no_stall(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=TEACHERS[:-1])
    clever.fault = at("LIST|OPEN|READ", SLOW)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert NOT_COMPARED not in ended.log


def test_a_large_file_is_read_whole(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=[*(f"x{number}" for number in range(30_000)), *TEACHERS])
    assert (clever.folder / "teachers.csv").stat().st_size > 700_000
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "not in Clever's" not in ended.log


def test_two_files_of_one_name(ready: Job, clever: Clever) -> None:
    """In other case: what stands in one of them is known."""
    put_files(clever, teachers=TEACHERS[:20])
    (clever.folder / "Teachers.csv").write_text("Teacher_id\n" + "\n".join(TEACHERS[20:]) + "\n")
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "not in Clever's" not in ended.log


def test_a_file_that_arrives_short(ready: Job, clever: Clever) -> None:
    put_files(clever)
    clever.fault = at("READ teachers", "end of file", after=1)
    (clever.folder / "teachers.csv").write_bytes(
        b"Teacher_id\n" + b"x\n" * 20_000 + "\n".join(TEACHERS).encode()
    )
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert f"{NOT_COMPARED}teachers.csv: it has not arrived whole\n" in ended.log


def test_a_name_in_the_folder_that_is_not_utf_8(ready: Job, clever: Clever) -> None:
    put_files(clever)
    os.close(os.open(os.fsencode(clever.folder) + b"/Caf\xe9.csv", os.O_CREAT))
    ended = ready.set(CONNECT_ATTEMPTS=1).run()
    assert (ended.status, ended.stderr) == (0, "")
    assert f"{NOT_COMPARED}other files: 'utf-8' codec can't decode" in ended.log


@pytest.mark.parametrize("part", [0.4, 0.5, 0.6])
def test_a_cut_while_a_large_file_is_read(ready: Job, clever: Clever, part: float) -> None:
    """No failed attempt, and no noise."""
    put_files(clever, teachers=[*(f"x{number}" for number in range(150_000)), *TEACHERS])
    with Line(clever.port) as line:
        ready.connect(clever=clever, line=line).set(CONNECT_ATTEMPTS=1)
        assert ready.run().status == 0
        line.cuts = [int(line.bytes_sent * part)]
        ended = ready.run()
    check_uploaded(ready, ended, clever)


def test_ids_are_compared_once_a_run(ready: Job, clever: Clever) -> None:
    put_files(clever)
    clever.fault = at("RENAME", DROP, times=2)
    assert ready.run().status == 0
    assert clever.steps.count("OPEN teachers.csv to read") == 1


def test_a_dry_run_reads_nothing_in_clever(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=[])
    assert ready.run("--dry-run").status == 0
    assert clever.steps == []
