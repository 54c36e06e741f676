"""MLflow: an experiment for each of ours, a run for each cell; a local database or the server that is named."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path

from bench.trackers.tracked import Tracked, imported, tracking_folder
from illmrec.files import writing

_VARIABLE = "MLFLOW_TRACKING_URI"
_TAG = "illmrec.run"
_LONGEST, _PARAMETERS, _METRICS = 6000, 100, 1000  # what the server takes of a value, and at once
# A server that does not answer is to be told of within seconds; by default it is asked again for minutes.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class MLflowRuns:
    """Runs in the server of ``MLFLOW_TRACKING_URI``, else in a database below the folder of results.

    Args:
        out: Folder of results.
    """

    def __init__(self, out: Path) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        self._mlflow = imported("mlflow", "mlflow")
        self._folder = tracking_folder(out, "mlflow")
        self._address = os.environ.get(_VARIABLE)
        self.destination = self._address or f"sqlite:///{self._folder / 'mlflow.db'}"
        for library in ("mlflow", "alembic"):
            logging.getLogger(library).setLevel(logging.WARNING)

    def check(self) -> None:
        """Ask the server for something."""
        if self._address is None:
            imported("sqlalchemy", "mlflow")
            with writing(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
        self._client = self._mlflow.MlflowClient(tracking_uri=self.destination)
        self._client.search_experiments(max_results=1)

    def log(self, run: Tracked) -> None:
        """Write a run, after deleting what a try that was cut off has left."""
        client, entities = self._client, self._mlflow.entities
        experiment = self._experiment(f"illmrec/{run.experiment}")
        for old in client.search_runs([experiment], f"tags.`{_TAG}` = '{run.id}'"):
            client.delete_run(old.info.run_id)
        made = client.create_run(experiment, run_name=run.name, tags={**run.tags, _TAG: run.id}).info.run_id
        now = int(time.time() * 1000)
        metrics = [entities.Metric(_named(name), value, now, 0) for name, value in run.metrics.items()]
        parameters = [
            entities.Param(_named(name), str(value)[:_LONGEST]) for name, value in run.parameters.items()
        ]
        for start in range(0, len(metrics), _METRICS):
            client.log_batch(made, metrics=metrics[start : start + _METRICS])
        for start in range(0, len(parameters), _PARAMETERS):
            client.log_batch(made, params=parameters[start : start + _PARAMETERS])
        for name, figure in run.figures.items():
            client.log_figure(made, figure, f"{name}.png")
        client.set_terminated(made)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None if self._address else (self._folder / "artifacts").as_uri()
        try:
            return str(self._client.create_experiment(name, artifact_location=place))
        except self._mlflow.exceptions.MlflowException:
            # Another run may have made it since.
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def _named(name: str) -> str:
    """Return a name as MLflow takes it, which knows no ``@``: ``ndcg_at_10``."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))
