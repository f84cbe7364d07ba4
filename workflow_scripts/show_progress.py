"""What a workflow is doing: jobs done, running and waiting, and failures, in one screen. Needs no workflow of its own."""

import argparse
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text
from tabulate import tabulate

from model.common.command_line import run
from model.config.reading import load_config
from model.workflow.changes import plural
from model.workflow.estimates import Times, planned_times, total_text
from model.workflow.history import present_hardware, read_history
from model.workflow.live import Ended, Overview, Running, Watch
from model.workflow.plan import Plan
from model.workflow.plan_jobs import raw_states
from model.workflow.reports_folder import plan_states
from model.workflow.state import TRAINED

SHARE = 10
"""States are determined again after this many times the time that it takes, so that looking costs no more than a tenth."""
FAILURES = 12
"""So many are shown at most."""


def lines(seen: Overview, times: Times | None) -> list[str]:
    """The screen, line by line."""
    running = {kind: sum(job.kind == kind for job in seen.running) for kind in TRAINED}
    rows = []
    for kind, count in seen.jobs.items():
        if kind in TRAINED:
            waiting = sum((_is_evaluation(name)) == (kind == "evaluation") for name in seen.waiting)
            ended = count - seen.done[kind] - running[kind] - waiting
            rows.append([plural(kind), seen.done[kind], running[kind], waiting, ended])
    others = [kind for kind in seen.jobs if kind not in TRAINED]
    made, every = (sum(of[kind] for kind in others) for of in (seen.done, seen.jobs))
    rows.append(["other jobs", made, "", every - made, ""])
    heads = ["", "done", "running", "not begun", "ended early"]
    found = [seen.workflow, "", *tabulate(rows, heads, tablefmt="simple", disable_numparse=True).splitlines()]
    if seen.running:
        found += ["", *_running(seen.running)]
    if seen.waiting and times is not None:
        found += ["", f"Not begun: {_waiting(seen, times)}."]
    stopped, failed = ([job for job in seen.ended if job.stopped == asked] for asked in (True, False))
    for title, ended in (("Stopped; they continue when the workflow runs again:", stopped), ("Failed:", failed)):
        found += ["", title, *_ended(ended)] if ended else []
    return found


def _is_evaluation(name: str) -> bool:
    return "/evaluation/" in name


def _running(jobs: tuple[Running, ...]) -> list[str]:
    rows = []
    for job in sorted(jobs, key=lambda job: (job.kind != "training", job.name)):
        if job.iteration is None or not job.iterations:
            far = "" if job.kind == "evaluation" else "preparing"
        else:
            far = f"{job.iteration:,}/{job.iterations:,}  {100 * job.iteration // job.iterations} %"
        rate = "" if job.rate is None else f"{job.rate:.1f}"
        left = "" if job.left is None else str(timedelta(seconds=round(job.left)))
        silent = "" if job.silent is None else f", silent for {timedelta(seconds=round(job.silent))}"
        rows.append([far, rate, left, f"{job.where}{silent}", job.name])
    heads = ["iteration", "it/s", "left", "on", "running"]
    return tabulate(rows, heads, tablefmt="simple", disable_numparse=True).splitlines()


def _waiting(seen: Overview, times: Times) -> str:
    parts = []
    for kind, known in (("training", times.trainings), ("evaluation", times.evaluations)):
        if found := [estimate for name, estimate in known.items() if name in seen.waiting]:
            parts.append(f"{len(found)} {plural(kind) if len(found) > 1 else kind}, {total_text(found)}")
    return " and ".join(parts) or "no training or evaluation"


def _ended(jobs: list[Ended]) -> list[str]:
    rest = len(jobs) - FAILURES
    shown = [f"  {job.name}: {job.said}" for job in jobs[:FAILURES]]
    return [*shown, f"  and {rest} more"] if rest > 0 else shown


class Screen:
    """Everything that is looked at again and again."""

    def __init__(self, configuration: Path) -> None:
        self.files = [configuration]
        self.plan = Plan(load_config(configuration))
        self.results = Path(self.plan.config.results)
        self.watch = Watch(self.results)
        self.raw = raw_states(self.plan, self.results, self.plan.datasets)
        self.next = 0.0

    def lines(self) -> list[str]:
        """The screen as it is now."""
        began = time.monotonic()
        if began >= self.next:
            self.jobs, self.states = plan_states(self.plan, self.results, self.files, self.raw)
            self.times = self._times()
            self.next = time.monotonic() + SHARE * (time.monotonic() - began)
        now = f"{self.files[0]}, {datetime.now():%Y-%m-%d %H:%M:%S}"
        return [now, *lines(self.watch.look(self.jobs, self.states), self.times)]

    def _times(self) -> Times | None:
        history = read_history([self.results])
        here = [on for on in present_hardware() if history.hardware[on]] or list(history.hardware)[:1]
        return planned_times(self.plan, self.results, history, here[0]) if here else None


def main() -> None:
    """Parse the command line and show the screen until Ctrl-C, or once where there is no terminal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    parser.add_argument("--once", action="store_true", help="print and end; so it is where the output is no terminal")
    parser.add_argument("--seconds", type=float, default=2.0, help="between two looks; default 2")
    arguments = parser.parse_args()
    screen = Screen(arguments.configfile)
    if arguments.once or not sys.stdout.isatty():
        print("\n".join(screen.lines()))
        return
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            text = Text("\n".join([*screen.lines(), "", "Ctrl-C ends this view; the workflow continues."]))
            text.no_wrap, text.overflow = True, "ellipsis"
            live.update(text, refresh=True)
            time.sleep(max(0.2, arguments.seconds))


def start() -> None:
    """Show the screen; Ctrl-C is how it ends."""
    with suppress(KeyboardInterrupt):
        main()


if __name__ == "__main__":
    run(start)
