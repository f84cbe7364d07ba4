"""Curves in Weights & Biases and MLflow, beside the workflow's own files: off unless the machine asks for them.

``SEGUE_TRACKERS=wandb,mlflow`` belongs to the machine: it enters no spec and re-runs nothing. Where the curves go (project,
server, offline mode) follows each package's own environment variables. A training that is resumed goes on in the run that it
began, whose identity is kept in its work folder. Trackers never fail a training: what cannot be written is told in a line.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from model.common.files import FileError, read_json, write_json
from model.common.names import unknown_name

TRACKERS = "SEGUE_TRACKERS"
"""Environment variable that names the trackers, with commas between them."""
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}
"""Importable package of each tracker; the optional dependencies of the project have the same names."""
PROJECT_NAME = "segue"
"""Where runs are gathered, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME says otherwise."""
STATE = "tracker-{}.json"
"""File in the work folder with the identity of a run."""


class TrackerError(ValueError):
    """A tracker that does not exist or is not installed; the message says what to do."""


class Backend(Protocol):
    """A run of one of the packages."""

    identity: str

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add values of an iteration."""

    def close(self, completed: bool) -> None:
        """End the run; one that is not complete may go on later."""


def wanted_trackers(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Which trackers the machine asks for; found out before anything is trained.

    Raises:
        TrackerError: for an unknown name, or a package that is not installed.
    """
    names = [name for part in environment.get(TRACKERS, "").split(",") if (name := part.strip())]
    for name in names:
        if name not in PACKAGES:
            raise TrackerError(f"{TRACKERS}: {unknown_name('tracker', name, PACKAGES)}")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise TrackerError(
                f"{TRACKERS} names '{name}', which is not installed: `.venv/bin/pip install '.[{name}]'`, or leave it out"
            )
    return tuple(dict.fromkeys(names))


class Tracker:
    """A run of a package that a training reports to, across interruptions.

    Args:
        name: a key of :data:`PACKAGES`.
        work: work folder of the training.
        title: of the run.
        key: digest of everything that the training depends on; only a run with the same key goes on.
        settings: what the training depends on, for the package's table of runs.
    """

    def __init__(self, name: str, work: Path, title: str, key: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        self._file = work / STATE.format(name)
        self._key = key
        state = self._read()
        self._logged = int(state.get("logged", 0))
        opening: dict[str, Callable[..., Backend]] = {"wandb": _Wandb, "mlflow": _MLflow}
        self._backend = opening[name](work, title, state.get("identity"), settings)
        self._write()

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Report values, unless they were reported before the training was interrupted."""
        if iteration > self._logged:
            self._backend.log(iteration, values)
            self._logged = iteration
            self._write()

    def close(self, completed: bool) -> None:
        """End the run; after the end of a training, another one begins a run of its own."""
        self._backend.close(completed)
        if completed:
            self._file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        with suppress(FileError):
            state = read_json(self._file)
            if state.get("key") == self._key:
                return state
        return {}

    def _write(self) -> None:
        state = {"key": self._key, "identity": self._backend.identity, "logged": self._logged}
        write_json(self._file, state)


class _Wandb:
    """Weights & Biases; WANDB_MODE, WANDB_PROJECT, WANDB_DIR and the others say where to."""

    def __init__(self, work: Path, title: str, identity: str | None, settings: Mapping[str, Any]) -> None:
        import wandb

        folder = os.environ.get("WANDB_DIR") or str(work)
        project = os.environ.get("WANDB_PROJECT") or PROJECT_NAME
        self._run = wandb.init(
            project=project,
            name=title,
            id=identity,
            resume="allow",
            dir=folder,
            config=dict(settings),
            reinit="create_new",
        )
        self.identity = str(self._run.id)

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=iteration)

    def close(self, completed: bool) -> None:
        self._run.finish(exit_code=0 if completed else 1)


class _MLflow:
    """MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where to."""

    def __init__(self, work: Path, title: str, identity: str | None, settings: Mapping[str, Any]) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        if identity is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT_NAME
            found = self._client.get_experiment_by_name(name)
            experiment = self._client.create_experiment(name) if found is None else found.experiment_id
            identity = self._client.create_run(experiment, run_name=title).info.run_id
            for key, value in _flat(settings).items():
                self._client.log_param(identity, key, str(value)[:500])
        else:
            self._client.update_run(identity, status="RUNNING")
        self.identity = str(identity)

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self.identity, name, value, step=iteration)

    def close(self, completed: bool) -> None:
        self._client.set_terminated(self.identity, "FINISHED" if completed else "KILLED")


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values by dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{above}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return found


class Trackers:
    """All trackers of a training. One that fails is left out from then on, and a line says so.

    Args:
        names: from :func:`wanted_trackers`.
        work, title, key, settings: as :class:`Tracker`.
        say: called with lines for the log.
    """

    def __init__(
        self,
        names: Sequence[str],
        work: Path,
        title: str,
        key: str,
        settings: Mapping[str, Any],
        say: Callable[[str], None] = print,
    ) -> None:
        self._say = say
        self._open: dict[str, Tracker] = {}
        for name in names:
            with self._without_one_that_fails(name):
                self._open[name] = Tracker(name, work, title, key, settings)

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Report values of an iteration to all of them."""
        for name in tuple(self._open):
            with self._without_one_that_fails(name):
                self._open[name].log(iteration, values)

    def close(self, completed: bool) -> None:
        """End every run."""
        for name in tuple(self._open):
            with self._without_one_that_fails(name):
                self._open.pop(name).close(completed)

    @contextmanager
    def _without_one_that_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of a foreign package, which may raise anything
            self._open.pop(name, None)
            said = " ".join(str(error).split()) or type(error).__name__
            self._say(f"{name} failed: {said[:300]}; training continues without it")
