"""The README, --help and the script say the same: settings, columns, files, tables, packages."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from job import SCRIPT, Job
from powerschool import PowerSchool

import clever_sections

README = (SCRIPT.parent / "README.md").read_text()
SOURCE = SCRIPT.read_text()
STRINGS = [
    node.value
    for node in ast.walk(ast.parse(SOURCE))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
]


def table(header: str) -> list[list[str]]:
    """The rows of the README's table that starts with this header, as cells."""
    rows = README.split(f"| {header} |\n", 1)[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_messages_are_the_scripts() -> None:
    rows = table("message | what else to know")
    assert len(rows) > 8
    for cell, _ in rows:
        beginning = re.split("…|:", cell.split("`")[1])[0].strip()
        beginning = beginning.removeprefix("Sections.uploaded.csv").strip()
        assert any(beginning in text for text in STRINGS), beginning


def test_the_settings_are_the_scripts() -> None:
    top = SOURCE.split("# Settings", 1)[1].split("\n# Users, passwords and addresses")[0]
    rows = table("constant | default | meaning")
    names = [row[0].strip("`") for row in rows]
    assert names == re.findall(r"(?m)^([A-Z_]+)\b.* = ", top)
    for name, (_, default, _) in zip(names, rows, strict=True):
        if default.startswith("`") and default != "`set()`":
            assert getattr(clever_sections, name) == ast.literal_eval(default.strip("`"))
        elif default == "`set()`":
            assert getattr(clever_sections, name) == set()


def test_the_columns_are_the_scripts() -> None:
    names = re.findall(r"`([A-Z]\w+)`", " ".join(row[0] for row in table("column | what it holds")))
    columns = [name for name in clever_sections.COLUMNS if not re.match(r"Teacher_[3-9]_", name)]
    assert names == columns


def test_the_tables_that_the_account_needs_are_those_of_the_queries() -> None:
    needed = README.split("needs to read the tables", 1)[1].split("`IGNORE_ZERO")[0]
    queried = set()
    for text in STRINGS:
        queried |= set(re.findall(r"(?:FROM|JOIN) ([a-z]+)", text))
    assert set(re.findall(r"`(\w+)`", needed)) == queried


def test_the_files_and_exit_statuses_are_those_of_help(job: Job) -> None:
    shown = job.run("--help").stdout
    files = {row[0].strip("`") for row in table("file | what it is")} - {"Sections.csv.tmp"}
    for name in files:
        assert f"  {name} " in shown
    for cell, _ in table("exit status | meaning"):
        for status in cell.split(", "):
            assert re.search(rf"\b{status} ", shown.split("exit status:")[1])


def test_uv_and_pip_install_the_same() -> None:
    [metadata] = re.findall(r"(?m)^# dependencies = (.*)$", SOURCE)
    lines = (SCRIPT.parent / "requirements.txt").read_text().splitlines()
    assert ast.literal_eval(metadata) == [line.split("#")[0].strip() for line in lines]
    [python] = re.findall(r'(?m)^# requires-python = "(.*)"$', SOURCE)
    assert python == ">=3.10"
    assert SOURCE.split('"""')[0].count("# ///") == 2


UV = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_uv_runs_the_script(powerschool: PowerSchool, job: Job, tmp_path: Path) -> None:
    job.connect(powerschool)
    # From ours, how packages are reached from here.
    environment = {**os.environ, **job.environment, "UV_SYSTEM_CERTS": "1"}
    command = [str(UV), "run", "--quiet", "--no-project", "--script", str(job.script)]
    options = ["--dry-run", "--date", "2026-11-24"]
    run = subprocess.run(
        [*command, *options], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert job.output.read_bytes() == (Path(__file__).parent / "sample.csv").read_bytes()
