"""Tables in Markdown, HTML and LaTeX. The best value of a column is bold, the second best underlined (italic in Markdown)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from model.reporting.escaping import html_text, latex_text, markdown_text
from model.reporting.printed import Cell, Row, Table

PACKAGES = ("booktabs", "graphicx")
"""LaTeX packages that the tables need."""

MARKS = "best bold, second best underlined (italic in Markdown)"

STYLE = """
:root { color-scheme: light dark; --line: #c8c8c8; --head: #f2f2f2; }
@media (prefers-color-scheme: dark) { :root { --line: #555; --head: #2b2b2b; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1rem auto; padding: 0 1rem; max-width: 90rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { background: var(--head); }
th[colspan] { text-align: center; }
th:first-child, td:first-child { text-align: left; }
tr.minor td { opacity: .75; font-size: 90%; border-bottom-style: dotted; }
p.note { font-style: italic; }
ul.footnotes { font-size: 90%; padding-left: 1.2rem; }
"""


def markdown_tables(title: str, lead: str, tables: Iterable[Table]) -> str:
    """A Markdown page with all tables."""
    parts = [f"# {markdown_text(title)}\n"]
    if lead:
        parts.append(f"{markdown_text(lead)}\n")
    for table in tables:
        parts.append(f"{'###' if table.minor else '##'} {markdown_text(table.title)}\n")
        if table.note:
            parts.append(f"*{markdown_text(table.note)}*\n")
        head = [table.first, *(f"{span} {column}".strip() for span, column in table.head)]
        lines = ["| " + " | ".join(map(markdown_text, head)) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join([_label(row), *map(_markdown_cell, row.cells)]) + " |" for row in table.rows]
        parts.append("\n".join(lines) + "\n")
        parts += [f"{markdown_text(footnote)}.\n" for footnote in table.footnotes]
    return "\n".join(parts)


def html_tables(title: str, lead: str, tables: Iterable[Table]) -> str:
    """An HTML page of its own with all tables; nothing in it is loaded from elsewhere."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html_text(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{html_text(title)}</h1>",
    ]
    if lead:
        parts.append(f"<p>{html_text(lead)}</p>")
    parts += [html_table(table) for table in tables]
    return "\n".join([*parts, "</body></html>\n"])


def html_table(table: Table) -> str:
    """One table as a part of an HTML page."""
    level = "h3" if table.minor else "h2"
    parts = [f"<{level}>{html_text(table.title)}</{level}>"]
    if table.note:
        parts.append(f'<p class="note">{html_text(table.note)}</p>')
    parts.append('<div class="wide"><table><thead>')
    if table.spans:
        spans = "".join(f'<th colspan="{width}">{html_text(text)}</th>' for text, width in table.spans)
        parts.append(f"<tr><th></th>{spans}</tr>")
    columns = "".join(f"<th>{html_text(column)}</th>" for _, column in table.head)
    parts.append(f"<tr><th>{html_text(table.first)}</th>{columns}</tr></thead><tbody>")
    for row in table.rows:
        cells = "".join(f"<td>{_marked(cell, html_text, _HTML)}</td>" for cell in row.cells)
        opening = '<tr class="minor">' if row.minor else "<tr>"
        parts.append(f"{opening}<td>{html_text(row.label)}</td>{cells}</tr>")
    parts.append("</tbody></table></div>")
    if table.footnotes:
        items = "".join(f"<li>{html_text(footnote)}</li>" for footnote in table.footnotes)
        parts.append(f'<ul class="footnotes">{items}</ul>')
    return "\n".join(parts)


def latex_tables(tables: Iterable[Table]) -> str:
    """LaTeX tables, no wider than the text, which need :data:`PACKAGES`."""
    parts = [f"% needs \\usepackage{{{','.join(PACKAGES)}}}"]
    for table in tables:
        texts = table.title, table.note, *table.footnotes
        caption = ". ".join(latex_text(text) for text in texts if text)
        parts += [
            "",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}.}}",
            r"  \resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"  \begin{{tabular}}{{l{'r' * len(table.head)}}}",
            r"    \toprule",
        ]
        if table.spans:
            parts += _spanning(table.spans)
        head = [table.first, *(column for _, column in table.head)]
        parts += [
            "    " + " & ".join(map(latex_text, head)) + r" \\",
            r"    \midrule",
            *("    " + " & ".join(_latex_row(row)) + r" \\" for row in table.rows),
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"\end{table}",
        ]
    return "\n".join(parts) + "\n"


def latex_document(tables: str) -> str:
    """A document that shows what :func:`latex_tables` wrote."""
    packages = "".join(rf"\usepackage{{{name}}}" + "\n" for name in PACKAGES)
    # LaTeX keeps 18 tables in memory at most unless they may be set where they stand
    return (
        f"\\documentclass{{article}}\n{packages}\\extrafloats{{200}}\n\\begin{{document}}\n{tables}\\end{{document}}\n"
    )


_HTML = {0: "{}", 1: "<strong>{}</strong>", 2: "<u>{}</u>"}
_LATEX = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}
_MARKDOWN = {0: "{}", 1: "**{}**", 2: "*{}*"}


def _marked(cell: Cell, escape: Callable[[str], str], marks: dict[int, str]) -> str:
    return marks[cell.rank].format(escape(cell.text))


def _markdown_cell(cell: Cell) -> str:
    """Escaped but for the star behind published numbers, which stays readable where Markdown is not rendered."""
    return _marked(cell, lambda text: markdown_text(text).replace(r"\*", "*"), _MARKDOWN)


def _label(row: Row) -> str:
    return markdown_text(row.label) if not row.minor else f"– {markdown_text(row.label)}"


def _latex_row(row: Row) -> list[str]:
    label = (r"\quad " if row.minor else "") + latex_text(row.label)
    return [label, *(_marked(cell, latex_text, _LATEX) for cell in row.cells)]


def _spanning(spans: Sequence[tuple[str, int]]) -> list[str]:
    texts = " & ".join(rf"\multicolumn{{{width}}}{{c}}{{{latex_text(text)}}}" for text, width in spans)
    rules, start = [], 2
    for text, width in spans:
        if text:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [rf"    & {texts} \\", "    " + "".join(rules)]
