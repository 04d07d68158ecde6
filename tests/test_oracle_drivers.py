"""The stand-in for PowerSchool serves both of Oracle's thin drivers, and both find the same in it.

They are written apart from one another, so that what both understand is no peculiarity of one.
"""

import json
import os
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import oracledb
import pytest
from powerschool import PowerSchool

PACKAGE = "oracledb@26"  # of npm
FETCHED_AT_ONCE = 10  # rows, so that the last of the queries takes more than one fetch

# Each with its binds, and how many rows it has in the sample.
QUERIES: list[tuple[str, dict[str, int], int]] = [
    (
        "SELECT id, school_number, name, high_grade, state_excludefromreporting FROM schools"
        " ORDER BY school_number",
        {},
        8,  # one school stands twice
    ),
    (
        "SELECT id, abbreviation, firstday, lastday, isyearrec FROM terms"
        " WHERE schoolid = :school ORDER BY id",
        {"school": 100},
        5,
    ),
    (
        "SELECT s.id, s.course_number, s.expression, s.grade_level, st.teacherid, st.roleid,"
        " st.start_date, st.end_date FROM sections s JOIN sectionteacher st ON st.sectionid = s.id"
        " WHERE s.schoolid = :school AND s.termid = :term ORDER BY s.id, st.id",
        {"school": 100, "term": 3600},
        26,
    ),
]

# Prints the rows of each query as JSON.
SCRIPT = """
const [folder, login, queries, fetchArraySize] = process.argv.slice(2);
const oracledb = require(folder + "/node_modules/oracledb");
oracledb.fetchArraySize = oracledb.prefetchRows = Number(fetchArraySize);

async function main() {
    const connection = await oracledb.getConnection(JSON.parse(login));
    const found = [];
    for (const [sql, binds] of JSON.parse(queries)) {
        found.push((await connection.execute(sql, binds)).rows);
    }
    await connection.close();
    console.log(JSON.stringify(found));
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
"""

Rows = list[list[object]]


def as_json(value: object) -> object:
    """A value as JavaScript writes it."""
    if isinstance(value, datetime):
        return f"{value.isoformat(timespec='milliseconds')}Z"
    return value


def pythons(powerschool: PowerSchool) -> list[Rows]:
    """The rows of each query, as python-oracledb reads them."""
    found = []
    with (
        oracledb.connect(
            user=powerschool.user, password=powerschool.password, dsn=powerschool.dsn
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.arraysize = cursor.prefetchrows = FETCHED_AT_ONCE
        for sql, binds, _ in QUERIES:
            cursor.execute(sql, binds)
            found.append([[as_json(value) for value in row] for row in cursor.fetchall()])
    return found


def nodes(powerschool: PowerSchool, folder: Path) -> list[Rows]:
    """The same, as node-oracledb reads them."""
    login = {
        "user": powerschool.user,
        "password": powerschool.password,
        "connectString": powerschool.dsn,
    }
    script = folder / "queries.js"
    script.write_text(SCRIPT)
    queries = [(sql, binds) for sql, binds, _ in QUERIES]
    values = [folder, json.dumps(login), json.dumps(queries), FETCHED_AT_ONCE]
    ended = subprocess.run(
        ["node", script, *map(str, values)],
        env=os.environ | {"TZ": "UTC"},  # a date's time is that of the place
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    found: list[Rows] = json.loads(ended.stdout)
    return found


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with node-oracledb."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing")
    folder = tmp_path_factory.mktemp("node")
    options = ["--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"]
    options += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]  # else minutes, offline
    try:
        subprocess.run(
            ["npm", "install", *options, PACKAGE], check=True, capture_output=True, timeout=60
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as problem:
        pytest.skip(f"{PACKAGE} cannot be installed: {problem}")
    return folder


def test_python_oracledb(powerschool: PowerSchool) -> None:
    assert [len(rows) for rows in pythons(powerschool)] == [count for *_, count in QUERIES]


def test_node_oracledb_reads_the_same(powerschool: PowerSchool, node_folder: Path) -> None:
    found = nodes(powerschool, node_folder)
    assert [len(rows) for rows in found] == [count for *_, count in QUERIES]
    assert found == pythons(powerschool)
    last, _, _ = QUERIES[-1]
    assert powerschool.steps.count(f"FETCH {last}") >= 2 * 2  # twice, for each of the drivers
