"""All cases by topic, and the troubleshooting page made from them."""

from __future__ import annotations

from archive_cases import ARCHIVES
from bad_case import Case, Section
from configuration_cases import CONFIGURATION
from file_cases import CHECKPOINTS, DATA, EVALUATIONS
from folder_cases import FOLDERS
from machine_cases import MACHINE
from mask_cases import MASKS
from prediction_cases import IMPORTS, PREDICTIONS
from raw_cases import IMAGES

SECTIONS: tuple[Section, ...] = (
    CONFIGURATION,
    MASKS,
    FOLDERS,
    IMAGES,
    DATA,
    CHECKPOINTS,
    EVALUATIONS,
    IMPORTS,
    PREDICTIONS,
    ARCHIVES,
    MACHINE,
)
CASES: tuple[Case, ...] = tuple(case for section in SECTIONS for case in section.cases)

INTRODUCTION = """\
# Troubleshooting

Written by `make docs` from the cases that the tests run (`tests/bad_input`). Every message below was produced by a run that ended
with an error and left everything computed before untouched.

A problem is one line that starts with `error:` and names a file or a key, what was expected, and what to do. `snakemake` and
`make demo` repeat the errors of failed jobs at the end of their output, under *What went wrong*; the log of every job is in
`results/logs`. Once the cause is removed, the same command continues where it stopped.

`make doctor` inspects the machine, the datasets and the weights of a configuration; `make plan` checks a configuration without
running it. A *traceback* is a bug in Segue; please report it. `SEGUE_TRACEBACK=1` shows one for every error.

Below, … stands for a path or a detail that varies.
"""


def entry(case: Case) -> str:
    """One entry of the page."""
    return f"### {case.name}\n\n```text\n{case.prefix}{case.sees}\n```\n\n{case.means} {case.do}\n"


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for section in SECTIONS:
        parts += [f"## {section.title}\n", *map(entry, section.cases)]
    return "\n".join(parts)
