"""What a night costs: the job as a process against both stand-ins, beside the usual way.

python tests/bench.py --schools 10 --sections 3000 --delay-ms 5
python tests/bench.py --check       (fails if round trips grow with the sections)
"""

import argparse
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import district
from clever import Clever
from job import TODAY, Job
from powerschool import PowerSchool

USUAL_WAY = Path(__file__).with_name("usual_way.py")


@dataclass
class Cost:
    """What one run took."""

    round_trips: int
    seconds: float
    start_up: float  # seconds from the start of the process to its first query
    processor: float  # seconds of the process itself
    memory: float  # MB at its peak
    uploaded: int  # bytes


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float, float, float]:
    """Run a command as cron does: when it started, and its seconds, processor time and memory."""
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, cwd="/")
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    processor = usage.ru_utime + usage.ru_stime
    return started, time.monotonic() - started, processor, usage.ru_maxrss / 1024


# A process begins with the memory peak of the one that starts it, so the stand-ins may not do that.
LAUNCHER = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def measure(command: list[str], powerschool: PowerSchool, clever: Clever, job: Job) -> Cost:
    """The cost of running a command against both stand-ins."""
    queried: list[float] = []

    def note_queries(step: str, _: int) -> None:
        if not queried and step.lstrip().startswith("SELECT"):
            queried.append(time.monotonic())

    powerschool.fault = note_queries
    trips = powerschool.round_trips
    started, seconds, processor, memory = LAUNCHER.submit(run, command, job.environment).result()
    trips = powerschool.round_trips - trips
    uploaded = (clever.folder / "Sections.csv").stat().st_size
    return Cost(trips, seconds, queried[0] - started, processor, memory, uploaded)


def nights(
    schools: int, sections: int, delay_ms: float, runs: int, usual_runs: int
) -> list[list[Cost]]:
    """Costs of the job, after a first night that is not counted, and of the usual way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = district.made(folder / "made.db", schools, sections)
        with PowerSchool(database) as powerschool, Clever(folder / "clever") as clever:
            job = Job(folder / "job").connect(powerschool, clever)
            commands = {
                runs: [sys.executable, str(job.script), "--date", TODAY],
                -usual_runs: [sys.executable, str(USUAL_WAY), str(folder), str(job.known_hosts)],
            }
            measure(commands[runs], powerschool, clever, job)
            powerschool.delay = delay_ms / 1000
            return [
                [measure(command, powerschool, clever, job) for _ in range(abs(times))]
                for times, command in commands.items()
            ]


def row(name: str, form: str, ours: list[float], usual: list[float]) -> str:
    """A line of the table: medians with their spread, and the ratio."""

    def cell(values: list[float]) -> str:
        if not values:
            return ""
        low, high = min(values), max(values)
        spread = f" ({low:{form}}-{high:{form}})" if f"{low:{form}}" != f"{high:{form}}" else ""
        return f"{median(values):{form}}{spread}"

    if not usual or name == "bytes uploaded":
        ratio = ""
    else:  # how many times better, whether less is better or more
        factor = median(usual) / median(ours)
        ratio = f"{1 / factor if 'a second' in name else factor:.1f}"
    return f"| {name} | {cell(ours)} | {cell(usual)} | {ratio} |"


def report(schools: int, sections: int, delay_ms: float, runs: int, usual_runs: int) -> None:
    ours, usual = nights(schools, sections, delay_ms, runs, usual_runs)
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    print(f"{schools} schools, {sections:,} sections, {delay_ms:g} ms a round trip; {machine}")
    print(f"Medians and spread of {runs} runs, of {usual_runs} of the usual way.\n")
    print("| | clever_sections.py | a query for each section | times better |")
    print("|---|---|---|---|")
    for name, form, value in [
        ("round trips to the database", ",", lambda cost: cost.round_trips),
        ("seconds", ".2f", lambda cost: cost.seconds),
        ("of these, start-up: to the first query", ".2f", lambda cost: cost.start_up),
        ("sections a second", ",.0f", lambda cost: sections / cost.seconds),
        ("processor time, µs a section", ".1f", lambda cost: cost.processor / sections * 1e6),
        ("peak memory, MB", ".0f", lambda cost: cost.memory),
        ("bytes uploaded", ",", lambda cost: cost.uploaded),
    ]:
        print(row(name, form, [value(cost) for cost in ours], [value(cost) for cost in usual]))


def check() -> int:
    """Compare the round trips of a district and of one ten times as large. Returns the status."""
    trips = {}
    for sections in (600, 6000):
        [cost], _ = nights(3, sections, 0, 1, 0)
        trips[sections] = cost.round_trips
        print(f"3 schools, {sections:,} sections: {cost.round_trips} round trips")
    return int(len(set(trips.values())) != 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schools", type=int, default=10)
    parser.add_argument("--sections", type=int, default=3000)
    parser.add_argument("--delay-ms", type=float, default=5)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--usual-runs", type=int, default=3, help="0 to leave the usual way out")
    parser.add_argument("--check", action="store_true", help="only count the round trips")
    options = parser.parse_args()
    if options.check:
        return check()
    report(options.schools, options.sections, options.delay_ms, options.runs, options.usual_runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
