"""The tracker `mlflow`: an SQLite file of the workspace, or the server that MLFLOW_TRACKING_URI names."""

import os
import time
from typing import Any

from flames_cli.trackers.base import PROJECT, Figures, Status, TrackedRun
from flames_cli.trackers.figures import CHOSEN, SECONDS

for _name, _value in {
    # Nothing is sent anywhere unless the user says so.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Else a server that is away is asked for more than two minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}.items():
    os.environ.setdefault(_name, _value)

from mlflow import MlflowClient  # noqa: E402 - MLflow reads the variables on import
from mlflow.entities import Metric, Param  # noqa: E402

FOLDER, FILE = "mlflow", "mlflow.db"
IDENTITY, FAMILY = "flames.identity", "flames.family"
"""Tags by which runs are found again."""

ENDS: dict[Status, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}

BATCH = 500
"""Number of figures in a request; MLflow accepts 1000."""


class MlflowTracker:
    """A run of MLflow; the runs of a family have one parent."""

    def __init__(self) -> None:
        self._client: Any = None
        self._run = ""
        self._final = 0

    def start(self, run: TrackedRun) -> int:
        """Find the run by its identity, or make it."""
        self._client, experiment = _open(run)
        found = _find(self._client, experiment, IDENTITY, run.identity)
        parameters = {key: str(value) for key, value in run.parameters.items()}
        if found:
            self._run = found.info.run_id
            self._client.update_run(self._run, status="RUNNING")
            for key, value in parameters.items():
                if found.data.params.get(key) != value:
                    # A parameter of MLflow never changes, an option may when a run continues.
                    self._client.set_tag(self._run, f"changed.{key}", value)
        else:
            tags = {"mlflow.runName": run.name, IDENTITY: run.identity}
            if run.family:
                tags |= {
                    "mlflow.parentRunId": _parent(self._client, experiment, run.family),
                    FAMILY: run.family,
                }
            self._run = self._client.create_run(experiment, tags=tags).info.run_id
            self._client.log_batch(self._run, params=[Param(*pair) for pair in parameters.items()])
        self._final = self._last(CHOSEN)
        return self._last(SECONDS)

    def round(self, number: int, figures: Figures) -> None:
        """Send all figures; the one by which the last round is found comes last."""
        last = {SECONDS: figures[SECONDS]} if SECONDS in figures else {}
        self._send(number, {**{name: value for name, value in figures.items() if name not in last}, **last})

    def final(self, number: int, figures: Figures) -> None:
        """Send the figures at the last round."""
        if number > self._final:
            self._send(number, figures)
            self._final = number

    def finish(self, status: Status) -> None:
        """Set the status of the run."""
        self._client.set_terminated(self._run, ENDS[status])

    def _send(self, number: int, figures: Figures) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, number) for name, value in figures.items()]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(self._run, metrics=metrics[start : start + BATCH])

    def _last(self, name: str) -> int:
        history = self._client.get_metric_history(self._run, name)
        return max((one.step for one in history), default=0)


def _open(run: TrackedRun) -> tuple[Any, str]:
    """Return a client, and the number of the experiment, which is made if it is missing."""
    uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
    if not uri:
        folder = (run.workspace / FOLDER).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        uri, artifacts = f"sqlite:///{(folder / FILE).as_posix()}", (folder / "artifacts").as_uri()
    client = MlflowClient(tracking_uri=uri)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
    found = client.get_experiment_by_name(name)
    return client, found.experiment_id if found else client.create_experiment(name, artifacts)


def _find(client: Any, experiment: str, tag: str, value: str) -> Any:
    """Return the newest run with a tag; None if there is none."""
    found = client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=1)
    return found[0] if found else None


def _parent(client: Any, experiment: str, family: str) -> str:
    """Return the run that groups those of a family, which is made if it is missing."""
    if found := _find(client, experiment, "flames.groups", family):
        return str(found.info.run_id)
    made = client.create_run(experiment, tags={"mlflow.runName": family, "flames.groups": family})
    client.set_terminated(made.info.run_id, "FINISHED")
    return str(made.info.run_id)
