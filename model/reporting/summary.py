"""The table that people read: method × scenario after the last step, mean ± deviation over seeds, beside published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from model.reporting.escaping import csv_cells, latex_text, markdown_text
from model.reporting.published import PROVENANCE, PublishedResults
from model.reporting.records import PRIMARY_METRIC

UPPER_BOUND, LOWER_BOUND = "joint", "finetuning"
SHOWN_GROUPS = ("old", "new", "all")
SECTION = ("dataset", "task", "setting", "recipe", "protocol")
SUMMARY_COLUMNS = (
    *SECTION, "scenario", "method", "group", "metric", "mean", "std", "seeds",
    "published", "provenance", "paper", "published_protocol", "note", "kept", "difference", "verdict",
)  # fmt: skip


KEPT = "†"
"""Marks results that were accepted under other code or another configuration than they were made with."""
KEPT_MEANS = f"{KEPT} made with other code or another configuration, and accepted as it is (`make keep`)"


BAND = 1.0
"""So many points may the value of released weights be from the published one: other libraries, decoders and graphics cards."""


def verdict(mean: float, published: float | None) -> tuple[float, str]:
    """Difference of released weights from the published number, and what it says.

    Args:
        mean: as evaluated here, in percent.
        published: None if the paper does not give the number.
    """
    if published is None:
        return float("nan"), "no published number"
    difference = mean - published
    return difference, f"{'within' if abs(difference) <= BAND else 'outside'} ±{BAND:g}"


def method_order(methods: Iterable[str]) -> list[str]:
    """The upper bound first, the lower bound last, the others in between in alphabetical order."""
    rank = {UPPER_BOUND: -1, LOWER_BOUND: 1}
    return sorted(set(methods), key=lambda name: (rank.get(name, 0), name))


def summarise(
    metrics: pd.DataFrame,
    published: PublishedResults,
    notes: Mapping[tuple[str, str, str], str] | None = None,
    kept: Mapping[tuple[object, ...], str] | None = None,
    released: Mapping[tuple[str, ...], tuple[str, bool]] | None = None,
) -> pd.DataFrame:
    """One row per section, scenario, method and group: mean and sample standard deviation over seeds at the last step.

    Args:
        metrics: from :func:`model.reporting.tables.metric_rows`.
        published: shown where dataset, task, scenario, setting and method match, whatever the protocol.
        notes: (dataset, task, recipe) → remark, such as "from scratch, not comparable".
        kept: (dataset, task, scenario, setting, recipe, method, seed) → what was accepted of a run that is not altogether as
            configured (:func:`model.reporting.verification.kept_runs`).
        released: (dataset, task, setting, recipe, scenario, row) → method whose released weights the row evaluates, and whether
            after the last step, which published numbers are about (:func:`model.reporting.collect.released_rows`).

    Returns:
        Columns :data:`SUMMARY_COLUMNS`; ``std`` is NaN for a single seed, ``published`` where there is no such number.
        ``difference`` and ``verdict`` compare released weights with the published number.
    """
    wanted = metrics[metrics["metric"] == metrics["task"].map(PRIMARY_METRIC)]
    wanted = wanted[wanted["group"].isin(SHOWN_GROUPS)]
    if wanted.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    last = wanted.groupby([*SECTION, "scenario", "method", "seed"])["step"].transform("max")
    wanted = wanted[wanted["step"] == last]
    accepted: dict[tuple[object, ...], dict[str, None]] = {}
    for run, text in (kept or {}).items():
        accepted.setdefault(run[:-1], {})[text] = None  # of any seed
    rows = []
    for key, values in wanted.groupby([*SECTION, "scenario", "method", "group", "metric"])["value"]:
        dataset, task, setting, recipe, protocol, scenario, method, group, metric = map(str, key)
        texts = accepted.get((dataset, task, scenario, setting, recipe, method), {})
        own, final = (released or {}).get((dataset, task, setting, recipe, scenario, method), ("", True))
        numbers = published.find(dataset, task, scenario, setting, own or method, metric, protocol) if final else {}
        number = numbers.get(group)
        found = verdict(float(values.mean()), number.value if number else None) if own else (float("nan"), "")
        rows.append(
            {
                **dict(zip(SECTION, (dataset, task, setting, recipe, protocol), strict=True)),
                "scenario": scenario,
                "method": method,
                "group": group,
                "metric": metric,
                "mean": float(values.mean()),
                "std": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
                "seeds": len(values),
                "published": number.value if number else float("nan"),
                "provenance": number.provenance if number else "",
                "paper": number.paper if number else "",
                "published_protocol": number.protocol if number else "",
                "note": (notes or {}).get((dataset, task, recipe), ""),
                "kept": "; ".join(texts),
                "difference": found[0],
                "verdict": found[1],
            }
        )
    frame = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    order = {name: i for i, name in enumerate([*method_order(frame["method"]), *SHOWN_GROUPS])}
    keys = [*SECTION, "scenario", "method", "group"]
    return frame.sort_values(
        keys, key=lambda c: c.map(order) if c.name in ("method", "group") else c, ignore_index=True, kind="stable"
    )


@dataclass(frozen=True)
class _Section:
    """One table: rows are methods; each scenario has a column per group and one for published numbers."""

    title: str
    note: str
    head: tuple[tuple[str, str], ...]  # (scenario, column), scenario repeated
    rows: tuple[tuple[str, ...], ...]
    papers: tuple[str, ...]
    kept: tuple[str, ...]
    verdicts: tuple[tuple[str, ...], ...] = ()


def _verdict_table(rows: Sequence[Sequence[str]]) -> str:
    """Released weights beside the numbers that were published with them, in Markdown."""
    head = ("released weights", "scenario", "classes", "here", "published", "difference", "verdict")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(markdown_text, row)) + " |" for row in rows)]) + "\n"


def markdown(summary: pd.DataFrame) -> str:
    """The summary as one Markdown table per dataset, task, setting, recipe and protocol."""
    parts = [
        "# Results\n",
        "Mean ± sample standard deviation over seeds (n = number of seeds), in percent, after the last step.\n",
    ]
    for section in _sections(summary):
        parts.append(f"## {markdown_text(section.title)}\n")
        if section.note:
            parts.append(f"*{markdown_text(section.note)}*\n")
        head = ["method", *(f"{scenario} {column}" for scenario, column in section.head)]
        lines = ["| " + " | ".join(map(markdown_text, head)) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in section.rows]
        parts.append("\n".join(lines) + "\n")
        if section.papers:
            parts.append("Published: " + "; ".join(map(markdown_text, section.papers)) + ".\n")
        if section.verdicts:
            parts.append(_verdict_table(section.verdicts))
        if section.kept:
            parts.append(f"{KEPT_MEANS}: {markdown_text('; '.join(section.kept))}.\n")
    return "\n".join(parts)


def latex(summary: pd.DataFrame) -> str:
    """The summary as LaTeX tables, which need the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}"]
    for section in _sections(summary):
        scenarios = list(dict.fromkeys(scenario for scenario, _ in section.head))
        widths = [sum(s == scenario for s, _ in section.head) for scenario in scenarios]
        spans = " & ".join(
            rf"\multicolumn{{{w}}}{{c}}{{{latex_text(s)}}}" for s, w in zip(scenarios, widths, strict=True)
        )
        kept = f"{KEPT_MEANS}: {'; '.join(section.kept)}" if section.kept else ""
        texts = section.title, section.note, "; ".join(section.papers), kept
        caption = ". ".join(latex_text(text) for text in texts if text)
        parts += [
            "",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}.}}",
            rf"  \begin{{tabular}}{{l{'r' * len(section.head)}}}",
            r"    \toprule",
            rf"    & {spans} \\",
            "    method & " + " & ".join(latex_text(column) for _, column in section.head) + r" \\",
            r"    \midrule",
            *("    " + " & ".join(map(latex_text, row)) + r" \\" for row in section.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    return "\n".join(parts) + "\n"


def write_summary(summary: pd.DataFrame, folder: Path) -> tuple[Path, Path, Path]:
    """Write ``summary.md``, ``summary.csv`` and ``summary.tex``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / "summary.md", folder / "summary.csv", folder / "summary.tex")
    paths[0].write_text(markdown(summary), encoding="utf-8")
    csv_cells(summary).to_csv(paths[1], index=False, float_format="%.6f", lineterminator="\n")
    paths[2].write_text(latex(summary), encoding="utf-8")
    return paths


def _sections(summary: pd.DataFrame) -> list[_Section]:
    sections = []
    for key, part in summary.groupby(list(SECTION), sort=True):
        dataset, task, setting, recipe, protocol = map(str, key)
        metric = PRIMARY_METRIC[task]
        scenarios = sorted(part["scenario"].unique(), key=_natural)
        cells = {(r["scenario"], r["method"], r["group"]): r for r in part.to_dict("records")}
        head, columns = [], []
        for scenario in scenarios:
            for group in SHOWN_GROUPS:
                head.append((scenario, group))
                columns.append([_value(cells.get((scenario, m, group))) for m in method_order(part["method"])])
            printed = [
                _published([cells.get((scenario, m, group)) for group in SHOWN_GROUPS], protocol)
                for m in method_order(part["method"])
            ]
            if any(printed):
                head.append((scenario, "published old/new/all"))
                columns.append(printed)
        rows = tuple(
            (method, *(column[index] or "–" for column in columns))
            for index, method in enumerate(method_order(part["method"]))
        )
        numbers = part[part["paper"] != ""]
        others = (numbers["published_protocol"] != protocol).any()
        star = ["* = evaluated under another protocol than this table's"] if others else []
        letters = [f"{letter} = {PROVENANCE[letter]}" for letter in PROVENANCE if letter in set(numbers["provenance"])]
        papers = sorted({f"{r.method}: {r.paper} (protocol: {r.published_protocol})" for r in numbers.itertuples()})
        sections.append(
            _Section(
                f"{dataset}, {task} ({metric}), {setting}, recipe {recipe}, protocol {protocol}",
                next((note for note in part["note"] if note), ""),
                tuple(head),
                rows,
                (*papers, *star, *letters),
                tuple(dict.fromkeys(f"{r['method']} ({r['kept']})" for r in part.to_dict("records") if r["kept"])),
                tuple(_verdict_row(row) for row in part.to_dict("records") if row["verdict"]),
            )
        )
    return sections


def _verdict_row(row: Mapping[Any, Any]) -> tuple[str, ...]:
    known = row["paper"] != ""
    numbers = (f"{row['published']:.2f} ({row['provenance']})", f"{row['difference']:+.2f}") if known else ("–", "–")
    return (row["method"], row["scenario"], row["group"], f"{row['mean']:.2f}", *numbers, row["verdict"])


def _value(row: Mapping[Any, Any] | None) -> str:
    if row is None:
        return ""
    mean, std, seeds = row["mean"], row["std"], row["seeds"]
    return f"{mean:.2f}" + (f" ± {std:.2f}" if std == std else "") + KEPT * bool(row["kept"]) + f" (n={seeds})"


def _published(rows: Sequence[Mapping[Any, Any] | None], protocol: str) -> str:
    """``35.1/13.5/29.7 (V)``; a star marks numbers evaluated under another protocol than the table's."""
    found = [row if row is not None and row["paper"] else None for row in rows]
    numbers = [row for row in found if row is not None]
    if not numbers:
        return ""
    text = "/".join(f"{row['published']:.1f}" if row else "–" for row in found)
    letters = "".join(dict.fromkeys(row["provenance"] for row in numbers))
    star = "" if all(row["published_protocol"] == protocol for row in numbers) else "*"
    return f"{text}{star} ({letters})"


def _markdown_cell(text: str) -> str:
    """Escaped but for the star behind published numbers, which stays readable where Markdown is not rendered."""
    return markdown_text(text).replace(r"\*", "*")


def _natural(name: str) -> tuple[object, ...]:
    """Scenario names in the order of their numbers: larger base first, then larger increments."""
    numbers = [int(part) for part in "".join(c if c.isdigit() else " " for c in name).split()]
    return (not numbers, *(-n for n in numbers[:2]), name) if numbers else (True, 0, 0, name)
