"""Fingerprints of code and specifications: what decides whether a result is still valid.

Every output is recorded with what it was made from (``model.common.provenance``), among others

* ``spec``: exactly the slice of the configuration that the job depends on;
* ``code``: a fingerprint of the syntax tree of each module that the job runs through, so that editing a docstring, a comment or
  the layout of a file re-runs nothing, while a changed expression re-runs exactly what executes it.

The closure of a job is *static*: the modules that its entry point imports, followed through the project's own packages.
Methods and networks are resolved from strings at run time and are named explicitly by whoever asks for the fingerprint.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from model.common.kept_answers import kept_answer

PROJECT = Path(__file__).resolve().parents[2]
KEPT = PROJECT / ".cache"
"""Where answers are kept that follow from source code."""
_OWN_CODE = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
PACKAGES = ("model",)
"""Top-level packages that closures are followed into; the compiled ops are held by parity tests instead."""
UNTRACKED = frozenset(
    {
        "model.common.command_line",
        "model.common.kept_answers",
        "model.common.names",
        "model.common.registry",
        "model.common.provenance",
        "model.config",
        "model.data.download.archives",
        "model.data.sources.class_orders",
        "model.data.sources.registry",
        "model.evaluation.evaluators.registry",
        "model.methods.registry",
        "model.networks.registry",
        "model.common.fingerprints",
        "model.training.loaders",
        "model.training.progress",
        "model.training.record",
        "model.training.work_folder",
        "model.workflow",
    }
)
"""Modules and packages that choose what runs, or tell about it, and take no part in it: a new registry row changes nothing."""


def canonical_json(value: Any) -> str:
    """One string per value: keys sorted, no blanks, so that reordered YAML keys compare equal.

    The signs of HTML are written as JSON escapes: Snakemake's report shows parameters of jobs inside a script.

    Raises:
        TypeError: for anything JSON cannot express.
        ValueError: for NaN and infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def short_hash(text: str, length: int = 10) -> str:
    """The first hexadecimal digits of a text's SHA-256, for names of folders."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # A string that stands alone is documentation wherever it is: after a field as well as at the top.
            node.body = [
                statement
                for statement in node.body
                if not (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                )
            ]
    return tree


@cache
def _syntax(file: Path) -> tuple[str, frozenset[str]]:
    """SHA-256 of a file's syntax tree, and the dotted names that it imports; kept by the file's content."""
    source = file.read_bytes()

    def parse() -> tuple[str, list[str]]:
        tree = _without_docstrings(ast.parse(source.decode(), filename=str(file)))
        # Unparsed source instead of ast.dump: it stays the same when a Python release adds a field to its nodes.
        return hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), sorted(set(_imported_names(tree)))

    question = f"{sys.version} {_OWN_CODE} {hashlib.sha256(source).hexdigest()}"
    fingerprint, imported = kept_answer(KEPT / "syntax", question, parse)
    return fingerprint, frozenset(imported)


def tree_fingerprint(file: Path) -> str:
    """SHA-256 of one source file's syntax tree, without positions, comments and docstrings.

    Raises:
        SyntaxError: if the file does not parse; the message names it.
    """
    return _syntax(file)[0]


def module_file(module: str, root: Path = PROJECT) -> Path | None:
    """The source file of a dotted module name inside the project, or None if it is not one of ours."""
    if module.split(".")[0] not in PACKAGES:
        return None
    base = root.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _imported_names(tree: ast.AST) -> Iterable[str]:
    """Dotted names a module imports, also inside functions; imports for type checkers alone do not run and do not count."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            pending.extend(node.orelse)
        else:
            pending.extend(ast.iter_child_nodes(node))


@cache
def _imports(file: Path) -> frozenset[str]:
    """Dotted names that a file imports, with the packages on the way: importing a.b.c also runs a/__init__.py."""
    found: set[str] = set()
    for name in _syntax(file)[1]:
        parts = name.split(".")
        found.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return frozenset(found)


def _is_untracked(module: str, untracked: Collection[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:end]) in untracked for end in range(1, len(parts) + 1))


def import_closure(
    entries: Iterable[Path | str], root: Path = PROJECT, untracked: Collection[str] = UNTRACKED
) -> tuple[Path, ...]:
    """Every project file that running the entries may execute, sorted.

    Args:
        entries: source files or dotted module names.
        root: folder that holds the packages.
        untracked: modules and packages that are neither listed nor followed.

    Raises:
        FileNotFoundError: if an entry does not exist.
    """
    pending: list[Path] = []
    for entry in entries:
        file = entry if isinstance(entry, Path) else module_file(entry, root)
        if file is None or not file.is_file():
            raise FileNotFoundError(f"'{entry}' is no source file of the project")
        pending.append(file)
    found: set[Path] = set()
    while pending:
        file = pending.pop()
        if file in found:
            continue
        found.add(file)
        for module in _imports(file):
            target = None if _is_untracked(module, untracked) else module_file(module, root)
            if target is not None and target not in found:
                pending.append(target)
    return tuple(sorted(found))


def foreign_modules(module: str) -> dict[str, Path]:
    """Every source file of the installed package that a module belongs to, by dotted name; empty if there is none.

    A package that is not Segue's is taken as a whole: how its modules depend on each other is its own business.
    """
    top = module.split(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None:
        return {}
    if spec.submodule_search_locations is None:
        return {top: Path(spec.origin)} if spec.origin and spec.origin.endswith(".py") else {}
    folders = map(Path, spec.submodule_search_locations)
    return {_module_name(file, folder.parent): file for folder in folders for file in sorted(folder.rglob("*.py"))}


def module_fingerprints(entries: Iterable[Path | str], root: Path = PROJECT) -> dict[str, str]:
    """Fingerprint of every module of the static import closure of some entry points, by dotted name.

    Of a module outside the project, that of its whole package and of what this imports from the project.

    Raises:
        FileNotFoundError: if an entry does not exist.
        SyntaxError: if a file of the closure does not parse.
    """
    own: list[Path | str] = []
    foreign: dict[Path, str] = {}
    for entry in entries:
        found = {} if isinstance(entry, Path) or module_file(entry, root) else foreign_modules(entry)
        foreign.update({file: name for name, file in found.items()})
        own += [] if found else [entry]
    closure = import_closure([*own, *foreign], root)
    return {foreign.get(file) or _module_name(file, root): _file_fingerprint(file) for file in closure}


def combined_fingerprint(modules: Mapping[str, str]) -> str:
    """One fingerprint of many modules."""
    return short_hash("\n".join(f"{name} {modules[name]}" for name in sorted(modules)), 16)


@cache
def job_code(*entries: str) -> dict[str, str]:
    """Fingerprints by module of what a job runs through.

    Args:
        entries: scripts of ``workflow_scripts`` by file name, modules by dotted name.

    Raises:
        FileNotFoundError, SyntaxError: as :func:`module_fingerprints`.
    """
    return module_fingerprints([PROJECT / "workflow_scripts" / e if e.endswith(".py") else e for e in entries])


def _module_name(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _file_fingerprint(file: Path) -> str:
    """Of a file's syntax tree and of the tables beside it that it reads, such as class tables."""
    digest = hashlib.sha256(tree_fingerprint(file).encode())
    for table in sorted(file.parent.glob(f"{file.stem}_*.csv")):
        digest.update(table.read_bytes())
    return digest.hexdigest()[:16]
