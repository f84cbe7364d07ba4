"""Which of several processes this one is, and how it finds the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MEETING = "SEGUE_MEETING"
"""Environment variable with a file through which the processes of one machine meet."""
LOST = 75
"""Exit status of a process that ended because another one was gone."""


class ProcessNumbersError(ValueError):
    """Numbers that fit no process; the message names the variable."""


@dataclass(frozen=True)
class ProcessNumbers:
    """One of several processes.

    Attributes:
        rank: number among all, from 0.
        count: of all.
        local_rank: number among those of this machine, which is that of its GPU.
        local_count: of those of this machine.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> ProcessNumbers | None:
        """As torchrun and this workflow say it; None where nobody does.

        Raises:
            ProcessNumbersError: for a variable that is missing, or no number.
        """
        if "RANK" not in environment or "WORLD_SIZE" not in environment:
            return None
        rank, count = (_number(environment, name, None) for name in ("RANK", "WORLD_SIZE"))
        if not 0 <= rank < count:
            raise ProcessNumbersError(f"RANK is {rank}, but WORLD_SIZE {count}: expected a number below it")
        return cls(
            rank, count, _number(environment, "LOCAL_RANK", rank), _number(environment, "LOCAL_WORLD_SIZE", count)
        )


def check_shares(batch_size: int, accumulate: int, count: int) -> None:
    """Whether every process gets as many images of a batch.

    Args:
        batch_size: images of an iteration.
        accumulate: passes in which they are taken.
        count: of processes.

    Raises:
        ProcessNumbersError: if not.
    """
    images = batch_size // accumulate
    if images % count:
        each = f" in each of {accumulate} passes" if accumulate > 1 else ""
        raise ProcessNumbersError(
            f"{images} images{each} cannot be shared out evenly among {count} processes: "
            f"train on a number of GPUs that divides {images}"
        )


def _number(environment: Mapping[str, str], name: str, otherwise: int | None) -> int:
    text = environment.get(name)
    if text is None and otherwise is not None:
        return otherwise
    if text is None or not text.isdecimal():
        raise ProcessNumbersError(f"{name} is '{text}': expected a number, as torchrun sets it")
    return int(text)
