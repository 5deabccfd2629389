"""MLflow: one run, on the server of ``MLFLOW_TRACKING_URI`` or in a database in the folder of runs."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from lightning.pytorch.loggers import MLFlowLogger

from distill.config.writer import dump
from distill.experiment.experiment import Experiment
from distill.run_dir.files import write_text
from distill.training.callbacks.trackers.tracker import Results, Tracker

ID_FILE = "mlflow_run_id"


class MlflowTracker(Tracker, MLFlowLogger):
    """Lightning's logger; the id is kept in the run folder, so that a resumed run continues its entry.

    Args:
        name: the MLflow experiment.
        experiment: the config of the run.
        folder: the run folder.
        entries: the rows of the timeline.
    """

    key = "mlflow"

    def __init__(self, name: str, experiment: Experiment, folder: Path, entries: list[dict]):
        import mlflow.store.db.utils  # it sets the level of its loggers

        logging.getLogger(mlflow.store.db.utils.__name__).setLevel(logging.WARNING)
        id_file, store = folder / ID_FILE, Path(experiment.output).absolute() / ".mlflow"
        uri = os.environ.get("MLFLOW_TRACKING_URI")  # Lightning reads it once, when it is imported
        if not uri:
            store.mkdir(exist_ok=True)
        super().__init__(
            experiment_name=name,
            run_name=experiment.name,
            tracking_uri=uri or f"sqlite:///{store / 'mlflow.db'}",
            artifact_location=None if uri else (store / "artifacts").as_uri(),
            run_id=id_file.read_text() if id_file.exists() else None,
        )
        if self._mlflow_client.get_experiment_by_name(name) is None:  # Lightning logs a warning
            self._mlflow_client.create_experiment(name, self._artifact_location)
        if id_file.exists():
            self.experiment.update_run(self.run_id, status="RUNNING")
            return  # a parameter of MLflow cannot change, and display or devices may have
        write_text(id_file, self.run_id)
        self.log_hyperparams(_with_valid_keys(dump(experiment)))
        self.experiment.log_dict(self.run_id, dump(experiment), "config.yaml")
        self.experiment.log_dict(self.run_id, {"timeline": entries}, "timeline.json")

    def describe(self) -> str:
        """Return the command that shows the run, or its server."""
        uri = self._tracking_uri
        return f"mlflow: mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else f"mlflow: {uri}"

    def finalize(self, status: str = "success") -> None:
        """Do nothing: after the last step the student is still exported and measured."""

    def log_results(self, results: Results) -> None:
        """Log ratios, tables and pictures, the report and the models."""
        client, run_id, folder = self.experiment, self.run_id, results.folder
        self.log_metrics({f"report/{name}": value for name, value in results.report["ratios"].items()})
        for name, (columns, rows) in results.tables().items():
            client.log_dict(run_id, [dict(zip(columns, row, strict=True)) for row in rows], f"tables/{name}.json")
        for name, figure in results.figures.items():
            client.log_figure(run_id, figure, f"pictures/{name}.png")
        client.log_artifact(run_id, str(folder / "report.html"))
        client.log_artifacts(run_id, str(folder / "student"), "student")
        for export in results.report["exports"]:
            client.log_artifact(run_id, str(folder / export["path"]), "exports")

    def close(self, failed: bool) -> None:
        """Set the state of the run."""
        self.experiment.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


def _with_valid_keys(value: object) -> object:
    """Return nested mappings with keys that MLflow takes: not those of a pattern (``freeze``) or of ``20%``."""
    if not isinstance(value, dict):
        return value
    return {re.sub(r"[^\w .:/-]", "_", str(key)): _with_valid_keys(inner) for key, inner in value.items()}
