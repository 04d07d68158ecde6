"""The stand-ins and the job, for every test that asks for them."""

from collections.abc import Iterator
from pathlib import Path

import district
import pytest
from clever import Clever
from job import Job
from powerschool import PowerSchool


@pytest.fixture
def powerschool(tmp_path: Path) -> Iterator[PowerSchool]:
    """The sample district."""
    with PowerSchool(district.sample(tmp_path / "sample.db")) as server:
        yield server


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[PowerSchool]:
    """A made district: 20 sections in two schools, and nothing to remark."""
    with PowerSchool(district.made(tmp_path / "made.db")) as server:
        yield server


@pytest.fixture
def clever(tmp_path: Path) -> Iterator[Clever]:
    with Clever(tmp_path / "clever") as server:
        yield server


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """The job, not yet connected to any server."""
    return Job(tmp_path / "job")
