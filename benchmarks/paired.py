"""Two ways of doing the same work, timed side by side: what every benchmark here prints and writes.

Each round calls the peer and Segue once, and the order is swapped from round to round, so that whatever else the machine does
hits both alike. The result is the ratio of their times in each round (peer ÷ Segue), as median [quartiles]: 2 means that Segue
takes half the time. One call of each before the first round is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks measure the checkout that they lie in


@dataclass(frozen=True)
class Comparison:
    """The times of both, round by round.

    Attributes:
        case: what was done.
        peer_name: whom Segue is compared with.
        ours, peer: wall-clock seconds of one call in each round.
        ours_cpu, peer_cpu: CPU seconds of this process, all threads.
    """

    case: str
    peer_name: str
    ours: tuple[float, ...]
    peer: tuple[float, ...]
    ours_cpu: tuple[float, ...]
    peer_cpu: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Peer ÷ Segue of each round, wall clock."""
        return [theirs / ours for theirs, ours in zip(self.peer, self.ours, strict=True)]

    @property
    def cpu_ratio(self) -> float:
        """Median of peer ÷ Segue in CPU time; NaN where the clock of the processor is too coarse."""
        pairs = zip(self.peer_cpu, self.ours_cpu, strict=True)
        found = [theirs / ours for theirs, ours in pairs if ours > 0]
        return statistics.median(found) if found else float("nan")

    def line(self) -> str:
        """One line to print."""
        low, middle, high = quartiles(self.ratios)
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        return (
            f"{self.case}: {middle:.2f} [{low:.2f}, {high:.2f}] x, CPU time {self.cpu_ratio:.2f} x; Segue {duration(ours)}, "
            f"{self.peer_name} {duration(peer)}, {len(self.ours)} rounds"
        )

    def row(self) -> dict[str, Any]:
        """As it is written to the file of ``--json``; times are medians in seconds."""
        low, middle, high = quartiles(self.ratios)
        return {
            "case": self.case,
            "ours": statistics.median(self.ours),
            "baseline": statistics.median(self.peer),
            "ratio": middle,
            "quartiles": [low, high],
            "cpu_ratio": self.cpu_ratio,
            "peer": self.peer_name,
            "rounds": len(self.ours),
        }


def compare(
    case: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    peer_name: str,
    rounds: int = 11,
    calls: int = 1,
    warm_up: int = 1,
    wait: Callable[[], object] | None = None,
) -> Comparison:
    """Call both alternately and print the comparison.

    Args:
        case: what is done.
        ours, peer: do the same work; what they return is dropped.
        peer_name: whom Segue is compared with.
        rounds: number of pairs; the order is swapped in every other one. At least 2.
        calls: how often each is called in a row and timed together, where one call is too short for the clock.
        warm_up: calls of each that are not counted.
        wait: called before each reading of the clock, e.g. ``torch.cuda.synchronize``.

    Raises:
        ValueError: for fewer than two rounds, which have no quartiles.
    """
    if rounds < 2:
        raise ValueError(f"{rounds} rounds have no quartiles; take at least 2")
    for _ in range(warm_up):
        ours()
        peer()
    seconds: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number in range(rounds):
        for own in (True, False) if number % 2 else (False, True):
            seconds[own].append(_timed(ours if own else peer, calls, wait))
    (mine, my_cpu), (theirs, their_cpu) = (zip(*seconds[own], strict=True) for own in (True, False))
    found = Comparison(case, peer_name, mine, theirs, my_cpu, their_cpu)
    print(found.line(), flush=True)
    return found


def _timed(call: Callable[[], object], calls: int, wait: Callable[[], object] | None) -> tuple[float, float]:
    if wait is not None:
        wait()
    start, processor = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    if wait is not None:
        wait()
    return (time.perf_counter() - start) / calls, (time.process_time() - processor) / calls


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def duration(seconds: float) -> str:
    """In a unit that suits it."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def parser(description: str | None, rounds: int = 11) -> argparse.ArgumentParser:
    """A command line with the options that every benchmark has: ``--json`` and ``--rounds``."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="file to write the results to")
    made.add_argument("--rounds", type=int, default=rounds, help="pairs of calls, at least 2")
    return made


def describe_machine() -> None:
    """Print what a figure depends on besides the code."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    print(f"{os.cpu_count()} cores, load average {load}", flush=True)


def write(comparisons: Iterable[Comparison], file: Path | None) -> None:
    """Write the comparisons to the file of ``--json``, if there is one."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [comparison.row() for comparison in comparisons]
        file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
