"""What can go wrong at a step of either stand-in: the same words mean the same in both.

A stand-in asks its fault at each step, such as "LOG IN", "WRITE Sections.csv.tmp" or the text of a
query. The answer is None, so that all goes well, or one of these, or any other text: a refusal, in
the words that the server gives for it.
"""

import re
from collections.abc import Callable

DROP = "drop"  # close the connection instead of answering
HALF = "half"  # send half of the answer, then close the connection
HANG = "hang"  # never answer, and hear nothing more
BUSY = "busy"  # answer only when the client breaks the call off
SLOW = "slow"  # answer 0.7 seconds late
LOSE = "lose"  # answer that all is well, and forget what was sent
LOST = "lost"  # refuse, and lose the file that was to be renamed
TRICKLE = "trickle"  # answer one byte every 0.3 seconds, without an end
DEAF = "deaf"  # read nothing more, and answer nothing; the connection stays open
ENDLESS = "endless"  # answer without an end: names, data or rows
HUGE = "huge"  # answer with a count or a length near 2**32

Fault = Callable[[str], "str | None"]


def at(where: str, wrong: str, times: int = 1_000_000, after: int = 0) -> Fault:
    """A fault at each step that the pattern `where` is found in: so many times, after some without.

    "FROM sections" is found in a query, "WRITE Sections.csv$" is that very step.
    """
    seen = 0

    def fault(step: str) -> str | None:
        nonlocal seen
        if not re.search(where, step):
            return None
        seen += 1
        return wrong if after < seen <= after + times else None

    return fault


def in_turn(*faults: Fault | None) -> Fault:
    """A fault for each connection, in the order in which they are made. Further ones go well."""
    number = -1  # of the connection

    def fault(step: str) -> str | None:
        nonlocal number
        number += step == "CONNECT"
        wrong = faults[number] if number < len(faults) else None
        return wrong(step) if wrong else None

    return fault
