"""What a night costs: the job as a process against both stand-ins, beside the usual way.

python tests/bench.py --schools 10 --sections 3000 --delay-ms 5 --clever-delay-ms 40
python tests/bench.py --check       (fails if round trips grow with the sections)
"""

import argparse
import asyncio
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import district
from clever import Clever
from job import TODAY, Job
from line import Line
from powerschool import PowerSchool

USUAL_WAY = str(Path(__file__).with_name("usual_way.py"))
PLAIN_PUT = str(Path(__file__).with_name("plain_put.py"))


@dataclass
class Cost:
    """What one run took."""

    round_trips: int  # to the database
    seconds: float
    start_up: float  # seconds from the start of the process to its first query
    processor: float  # seconds of the process itself
    memory: float  # MB at its peak
    uploaded: int  # bytes
    look: (
        float  # seconds of the first connection to Clever, log-in included; 0 if there is one only
    )
    upload: float  # seconds from the last connection to Clever to the last request there


@dataclass
class Costs:
    """All runs of one benchmark."""

    job: list[Cost]
    usual_way: list[Cost]
    plain_put: list[Cost]


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float, float, float]:
    """Run a command as cron does: when it started, and its seconds, processor time and memory."""
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment, cwd="/")
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    processor = usage.ru_utime + usage.ru_stime
    return started, time.monotonic() - started, processor, usage.ru_maxrss / 1024


class TimedLine(Line):
    """The line to Clever; `visits` are when each connection over it began and ended."""

    async def start(self) -> None:
        self.visits: list[list[float]] = []
        await super().start()

    async def connected(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        visit = [time.monotonic()]
        self.visits.append(visit)
        await super().connected(from_client, to_client)
        visit.append(time.monotonic())


class Bench:
    """Both stand-ins, a made district, and a process that starts what is measured."""

    def __init__(
        self, powerschool: PowerSchool, clever: Clever, line: TimedLine, folder: Path
    ) -> None:
        self.line = line
        self.powerschool = powerschool
        self.clever = clever
        self.job = Job(folder / "job").connect(powerschool, clever, line)
        self.folder = folder
        # A process begins with the memory peak of the one that starts it, so the stand-ins may not
        # be in that.
        self.launcher = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def run_job(self) -> Cost:
        return self.measure([str(self.job.script), "--date", TODAY])

    def run_usual_way(self) -> Cost:
        return self.measure([USUAL_WAY, str(self.folder), str(self.job.known_hosts)])

    def run_plain_put(self) -> Cost:
        return self.measure([PLAIN_PUT, str(self.job.output), str(self.job.known_hosts)])

    def measure(self, arguments: list[str]) -> Cost:
        """The cost of running a Python script against both stand-ins."""
        queried: list[float] = []
        requested: list[float] = []

        def note_query(step: str) -> None:
            if "FROM" in step:
                queried.append(time.monotonic())

        def note_request(step: str) -> None:
            requested.append(time.monotonic())

        self.powerschool.fault = note_query
        self.clever.fault = note_request
        self.line.visits.clear()
        trips = self.powerschool.round_trips
        command = [sys.executable, *arguments]
        ended = self.launcher.submit(run, command, self.job.environment).result()
        started, seconds, processor, memory = ended
        first, last = self.line.visits[0], self.line.visits[-1]
        return Cost(
            round_trips=self.powerschool.round_trips - trips,
            seconds=seconds,
            start_up=queried[0] - started if queried else 0.0,
            processor=processor,
            memory=memory,
            uploaded=(self.clever.folder / "Sections.csv").stat().st_size,
            look=first[1] - first[0] if first is not last else 0.0,
            upload=requested[-1] - last[0],
        )


def nights(options: argparse.Namespace) -> Costs:
    """Run everything as often as the options say, after a first night that is not counted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = district.made(folder / "made.db", options.schools, options.sections)
        with (
            PowerSchool(database) as powerschool,
            Clever(folder / "clever") as clever,
            TimedLine(clever.port, options.clever_delay_ms / 2000) as line,
        ):
            district.put_other_files(clever.folder, options.schools, options.sections)
            bench = Bench(powerschool, clever, line, folder)
            bench.run_job()
            powerschool.delay = options.delay_ms / 1000
            job = [bench.run_job() for _ in range(options.runs)]
            plain_put = [bench.run_plain_put() for _ in range(options.runs)]
            usual_way = [bench.run_usual_way() for _ in range(options.usual_runs)]
            return Costs(job, usual_way, plain_put)


def cell(values: list[float], form: str) -> str:
    """The median of some values, with their spread."""
    if not values:
        return ""
    low = f"{min(values):{form}}"
    high = f"{max(values):{form}}"
    spread = f" ({low}-{high})" if low != high else ""
    return f"{median(values):{form}}{spread}"


def times_better(ours: list[float], others: list[float]) -> str:
    """How many times less ours take."""
    return f"{median(others) / median(ours):.1f}" if others else ""


def print_report(costs: Costs, sections: int) -> None:
    """Print the tables of this folder's README."""
    rows: list[tuple[str, str, Callable[[Cost], float]]] = [
        ("round trips to the database", ",.0f", lambda cost: cost.round_trips),
        ("seconds", ".2f", lambda cost: cost.seconds),
        ("of these, start-up: to the first query", ".2f", lambda cost: cost.start_up),
        ("processor time, µs a section", ".1f", lambda cost: cost.processor / sections * 1e6),
        ("peak memory, MB", ".0f", lambda cost: cost.memory),
    ]
    print("| | clever_sections.py | a query for each section | times better |")
    print("|---|---|---|---|")
    for name, form, value in rows:
        ours = [value(cost) for cost in costs.job]
        usual = [value(cost) for cost in costs.usual_way]
        print(
            f"| {name} | {cell(ours, form)} | {cell(usual, form)} | {times_better(ours, usual)} |"
        )
    ours = [cost.upload for cost in costs.job]
    plain = [cost.upload for cost in costs.plain_put]
    ratio = median(ours) / median(plain)
    print("\n| | clever_sections.py | pysftp's put of the same file | times its time |")
    print("|---|---|---|---|")
    print(f"| upload, seconds | {cell(ours, '.2f')} | {cell(plain, '.2f')} | {ratio:.2f} |")
    print(f"| the look before that, seconds | {cell([c.look for c in costs.job], '.2f')} | | |")
    print(f"| bytes | {costs.job[0].uploaded:,} | {costs.plain_put[0].uploaded:,} | |")


def report(options: argparse.Namespace) -> None:
    costs = nights(options)
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    print(f"{options.schools} schools, {options.sections:,} sections; {machine}")
    delays = f"{options.delay_ms:g} ms to the database, {options.clever_delay_ms:g} ms to Clever"
    print(f"A round trip takes {delays}.")
    print(f"Medians and spread of {options.runs} runs, of {options.usual_runs} of the usual way.\n")
    print_report(costs, options.sections)


def check(options: argparse.Namespace) -> int:
    """Compare the round trips of a district and of one ten times as large. Returns the status."""
    options.schools = 3
    options.runs = 1
    options.usual_runs = 0
    options.delay_ms = 0
    trips = []
    for options.sections in (600, 6000):
        costs = nights(options)
        trips.append(costs.job[0].round_trips)
        print(f"3 schools, {options.sections:,} sections: {trips[-1]} round trips")
    if trips[0] != trips[1]:
        print("The round trips grow with the sections.")
    return 0 if trips[0] == trips[1] else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schools", type=int, default=10)
    parser.add_argument("--sections", type=int, default=3000)
    parser.add_argument("--delay-ms", type=float, default=5, help="a round trip to the database")
    parser.add_argument(
        "--clever-delay-ms", type=float, default=0, help="a round trip to Clever, half each way"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--usual-runs", type=int, default=3, help="0 to leave the usual way out")
    parser.add_argument("--check", action="store_true", help="only count the round trips")
    options = parser.parse_args()
    if options.check:
        return check(options)
    report(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
