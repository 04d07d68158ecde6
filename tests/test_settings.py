"""The settings at the top of the script: each wrong form, and those that districts need."""

import csv
import io
import re

import district
import pytest
from checks import check_clean
from clever import Clever
from job import SCRIPT, Job
from powerschool import PowerSchool

import clever_sections

Values = list[object]
# What is no text, no number and so on, for settings of each kind.
NO_TEXT: Values = [None, 7, True, b"expression", ["expression"], {"expression"}]
NO_NAME: Values = [*NO_TEXT, "", "two words", "it's", "a/b", "../a", "a;b"]
NO_SWITCH: Values = [None, "no", "", 0, 1, "True", []]
NO_WHOLE_NUMBER: Values = [None, "10", "", 1.5, True, -1, [10], {10}, 10**9]
NO_NUMBER: Values = [None, "10", "", True, -1, [10], float("nan"), float("inf"), 10**9]
NO_NUMBERS: Values = [
    None,
    800,
    "800",
    {"800"},
    {800.0},
    {True},
    [800],
    (800,),
    {},
    {800: 900},
    {800, "a"},
]
NO_TEXTS: Values = [None, "LUNCH", {7}, ["LUNCH"], ("LUNCH",), {}, {"LUNCH": "x"}, {"LUNCH", None}]
NO_LIST: Values = [None, "Math", {"Math"}, ("Math",), {"Math": "x"}, [7], ["Math", None]]
NO_PAIRS: Values = [
    None,
    "Mat",
    {"Mat"},
    ["Mat"],
    [("Mat", "Math")],
    {"Mat": 7},
    {7: "Math"},
    {"Mat": None},
]
NO_NUMBERED: Values = [None, {0}, [0], {"0": ""}, {0: 0}, {0: None}, {True: ""}, {0.5: ""}]

WRONG: dict[str, Values] = {
    "OUTPUT_FILE_NAME": [*NO_NAME, ".", ".."],
    "TABLE_OWNER": [*NO_TEXT, "two words", "ps;", "ps'"],
    "VALID_SUBJECTS": NO_LIST,
    "SUBJECT_MAP": NO_PAIRS,
    "COURSE_SUBJECTS": NO_PAIRS,
    "STRIP_TRACK_INFO": NO_SWITCH,
    "PERIOD_COLUMN": NO_NAME,
    "GRADE_NAMES": NO_NUMBERED,
    "PRESCHOOL_GRADE": NO_TEXT,
    "HIGH_SCHOOL_IDS": NO_NUMBERS,
    "MAX_STAFF": [*NO_WHOLE_NUMBER, 0],
    "TEACHER_ID_COLUMN": NO_NAME,
    "TERM_START_OFFSET_DAYS": NO_WHOLE_NUMBER,
    "TERM_END_OFFSET_DAYS": NO_WHOLE_NUMBER,
    "IGNORED_SCHOOLS": NO_NUMBERS,
    "INCLUDED_SCHOOLS": NO_NUMBERS,
    "IGNORED_COURSES": NO_TEXTS,
    "IGNORED_ROLES": NO_TEXTS,
    "IGNORE_FORMER_STAFF": NO_SWITCH,
    "IGNORE_ZERO_ENROLLMENT_SECTIONS": NO_SWITCH,
    "IGNORE_TEACHERS_WITHOUT_EMAILS": NO_SWITCH,
    "IGNORE_SECTIONS_WITH_NO_TEACHERS": NO_SWITCH,
    "MAX_LOST": [*NO_NUMBER, "0.1", 10, 1.1],
    "CONNECT_TIMEOUT_SECONDS": [*NO_NUMBER, 0],
    "QUERY_TIMEOUT_SECONDS": [*NO_NUMBER, 0],
    "TRY_TIMEOUT_MINUTES": [*NO_NUMBER, 0],
    "CONNECT_ATTEMPTS": [*NO_WHOLE_NUMBER, 0],
    "RETRY_DELAY_SECONDS": NO_NUMBER,
}
# What the line shows as an example, by the kind of a setting.
EXAMPLES = {
    **dict.fromkeys(["OUTPUT_FILE_NAME", "PERIOD_COLUMN", "TEACHER_ID_COLUMN"], '"'),
    **dict.fromkeys(["TABLE_OWNER", "PRESCHOOL_GRADE"], '"'),
    **dict.fromkeys(["VALID_SUBJECTS"], '["'),
    **dict.fromkeys(["SUBJECT_MAP", "COURSE_SUBJECTS"], '{"'),
    **dict.fromkeys(["GRADE_NAMES"], "{0: "),
    **dict.fromkeys(["HIGH_SCHOOL_IDS", "IGNORED_SCHOOLS", "INCLUDED_SCHOOLS"], "{300, 310}"),
    **dict.fromkeys(["IGNORED_COURSES", "IGNORED_ROLES"], '{"LUNCH", "DUTY"}'),
    **dict.fromkeys([name for name in WRONG if name.startswith("IGNORE_")], "True or False"),
    **dict.fromkeys(["STRIP_TRACK_INFO"], "True or False"),
    **dict.fromkeys(["MAX_STAFF", "CONNECT_ATTEMPTS"], "such as 10"),
    **dict.fromkeys(["TERM_START_OFFSET_DAYS", "TERM_END_OFFSET_DAYS"], "such as 10"),
    **dict.fromkeys(
        ["MAX_LOST", "CONNECT_TIMEOUT_SECONDS", "QUERY_TIMEOUT_SECONDS"], "such as 0.1"
    ),
    **dict.fromkeys(["TRY_TIMEOUT_MINUTES", "RETRY_DELAY_SECONDS"], "such as 0.1"),
}


def test_every_setting_is_tried() -> None:
    block = SCRIPT.read_text().split("# ==== Settings", 1)[1].split("\ndef ", 1)[0]
    names = re.findall(r"(?m)^([A-Z]\w+)\b.*= ", block)
    assert sorted(names) == sorted(WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_in_every_wrong_form(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    clever_sections.check_settings()
    for value in WRONG[name]:
        monkeypatch.setattr(clever_sections, name, value)
        with pytest.raises(clever_sections.Failure, match=rf"^{name}\b") as caught:
            clever_sections.check_settings()
        assert caught.value.status == 2, value
        assert EXAMPLES[name] in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUTPUT_FILE_NAME", "Sections-2.csv"),
        ("TABLE_OWNER", "PS_1"),
        ("COURSE_SUBJECTS", {}),
        ("GRADE_NAMES", {}),
        ("GRADE_NAMES", {-1: "PreKindergarten", 14: ""}),
        ("IGNORED_SCHOOLS", set()),
        ("IGNORED_SCHOOLS", {800, 999999}),
        ("IGNORED_ROLES", {"Class Observer", "Aide"}),
        ("TERM_START_OFFSET_DAYS", 0),
        ("TERM_END_OFFSET_DAYS", 0),
        ("TERM_END_OFFSET_DAYS", 365),
        ("MAX_LOST", 0),
        ("MAX_LOST", 1),
        ("MAX_LOST", 0.05),
        ("CONNECT_TIMEOUT_SECONDS", 0.5),
        ("TRY_TIMEOUT_MINUTES", 0.05),
        ("RETRY_DELAY_SECONDS", 0),
    ],
)
def test_a_setting_in_a_right_form(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(clever_sections, name, value)
    clever_sections.check_settings()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"OUTPUT_FILE_NAME": "/"}, "OUTPUT_FILE_NAME has a wrong form. Write a text without "),
        # The first of them is named, and none keeps the script from coming to that.
        ({name: values[0] for name, values in WRONG.items()}, "OUTPUT_FILE_NAME has a wrong "),
        ({name: values[1] for name, values in WRONG.items()}, "OUTPUT_FILE_NAME has a wrong "),
    ],
    ids=["one", "all", "all in another way"],
)
def test_wrong_settings_end_the_job_before_a_server_is_asked(
    quiet: PowerSchool, clever: Clever, job: Job, wrong: dict[str, object], line: str
) -> None:
    ended = job.connect(quiet, clever).set(**wrong).run()
    assert ended.status == 2
    assert ended.stderr.startswith(f"ERROR {line}")
    assert ended.stderr.count("\n") == 1
    assert (quiet.steps, clever.steps) == ([], [])
    check_clean(job, ended)


# --- Which schools ---


def rows(job: Job) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(job.output.read_text())))


@pytest.mark.parametrize(
    ("settings", "schools"),
    [
        ({"INCLUDED_SCHOOLS": {900, 100}}, "100 200 300 310 320 900"),
        ({"INCLUDED_SCHOOLS": {900, 300}, "IGNORED_SCHOOLS": {900, 310}}, "100 200 300 320"),
    ],
)
def test_the_schools_that_are_sent(
    powerschool: PowerSchool, job: Job, settings: dict[str, object], schools: str
) -> None:
    ended = job.connect(powerschool).set(**settings).run("--dry-run")
    assert ended.status == 0
    assert sorted({row["School_id"] for row in rows(job)}) == schools.split()
    assert "nothing is called" not in ended.log


# --- Names that are nowhere in PowerSchool ---


def test_a_name_that_is_nowhere_in_powerschool_is_a_remark(
    powerschool: PowerSchool, job: Job
) -> None:
    """A comma was forgotten twice."""
    job.connect(powerschool).set(
        IGNORED_SCHOOLS={800},
        INCLUDED_SCHOOLS={901},
        HIGH_SCHOOL_IDS={301},
        IGNORED_COURSES={"LUNCHDUTY", "BAND"},
        IGNORED_ROLES={"CounselorClassroom Aide"},
        COURSE_SUBJECTS={"R0BO": "Math"},
    )
    ended = job.run("--dry-run")
    assert (ended.status, ended.stderr) == (0, "")
    for line in [
        "IGNORED_SCHOOLS: nothing is called 800",
        "INCLUDED_SCHOOLS: nothing is called 901",
        "HIGH_SCHOOL_IDS: nothing is called 301",
        "IGNORED_COURSES: nothing is called LUNCHDUTY",
        "IGNORED_ROLES: nothing is called CounselorClassroom Aide",
        "COURSE_SUBJECTS: nothing is called R0BO",
    ]:
        assert f" INFO {line}\n" in ended.log
    assert ended.log.count("nothing is called") == 6


def test_names_are_found_in_any_case(powerschool: PowerSchool, job: Job) -> None:
    """Blanks do not matter either, and schools that are not sent are there all the same."""
    job.connect(powerschool).set(
        IGNORED_SCHOOLS={900},
        HIGH_SCHOOL_IDS={310},
        IGNORED_COURSES={" band", "Hr"},
        IGNORED_ROLES={"CLASSROOM AIDE ", "counselor"},
        COURSE_SUBJECTS={"gov": "Science"},
    )
    ended = job.run("--dry-run")
    assert ended.status == 0
    assert "nothing is called" not in ended.log
    assert not {"BAND", "HR"} & {row["Course_number"] for row in rows(job)}


# --- Courses and their subjects ---


def test_the_subject_of_a_single_course_wins(powerschool: PowerSchool, job: Job) -> None:
    job.connect(powerschool).set(
        COURSE_SUBJECTS={"gov ": "Homeroom/advisory", "BAND": "Arts and music", "GONE": "other"}
    )
    ended = job.run("--dry-run")
    assert ended.status == 0
    subjects = {row["Section_id"]: row["Subject"] for row in rows(job)}
    assert subjects["33"] == "Homeroom/advisory"
    assert (subjects["23"], subjects["25"]) == ("Arts and music", "other")
    assert subjects["31"] == "Math"
    assert "no subject for credit type" not in ended.log


def test_lists_of_subjects(powerschool: PowerSchool, job: Job) -> None:
    job.connect(powerschool).set(
        VALID_SUBJECTS=["Robotics", "Math"], SUBJECT_MAP={"mus": "Robotics", "Sci": "My Science"}
    )
    assert job.run("--dry-run").status == 0
    subjects = {row["Section_id"]: row["Subject"] for row in rows(job)}
    assert subjects["23"] == "Robotics"
    assert subjects["32"] == "My Science"
    assert (subjects["12"], subjects["11"], subjects["31"]) == ("Math", "", "")


def test_a_course_number_in_other_letters_is_the_same_course(
    powerschool: PowerSchool, job: Job
) -> None:
    """In case, or in blanks around it."""
    sql = """
        UPDATE sections SET course_number = ' alg1 ' WHERE id = 31;
        UPDATE courses SET course_number = 'bio  ' WHERE course_number = 'BIO';
    """
    district.change(powerschool.database, sql)
    ended = job.connect(powerschool).run("--dry-run")
    assert ended.status == 0
    found = {
        row["Section_id"]: (row["Course_name"], row["Course_number"], row["Subject"])
        for row in rows(job)
    }
    assert found["31"] == ("Algebra 1", "alg1", "Math")
    assert found["32"] == ("Biology; Lab", "BIO", "Science")
    assert "no such course in PowerSchool: 1 section (200 GONE.1)\n" in ended.log
