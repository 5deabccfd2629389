"""Weights & Biases: one entry a run, with its config, curves, tables, pictures and models."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger

from distill.config.writer import dump
from distill.experiment.experiment import Experiment
from distill.experiment.runs import model_holders
from distill.run_dir.files import write_text
from distill.training.callbacks.display.messages import is_live
from distill.training.callbacks.trackers.tracker import Results, Tracker

ID_FILE = "wandb_id"
_WITHOUT_LOGIN = ("offline", "dryrun", "disabled")


def check_login() -> None:
    """Check that W&B knows the user, or needs not; without asking and without the network.

    Raises:
        ValueError: if nobody is logged in.
    """
    import wandb  # takes a second

    if _mode() not in _WITHOUT_LOGIN and wandb.run is None and not wandb.login(prompt=False):
        raise ValueError("wandb: not logged in; run `wandb login`, or set WANDB_MODE=offline")


def _mode() -> str:
    """Return the mode: of the environment as it is now, as wandb itself read it when it was first used."""
    import wandb

    return os.environ.get("WANDB_MODE") or wandb.setup().settings.mode


class WandbTracker(Tracker, WandbLogger):
    """Lightning's logger with a run of its own, which neither takes over nor ends another one of the process.

    The id is kept in the run folder, so that a resumed run continues its entry.

    Args:
        project: the project.
        experiment: the config of the run.
        folder: the run folder.
        entries: the rows of the timeline.
    """

    key = "wandb"

    def __init__(self, project: str, experiment: Experiment, folder: Path, entries: list[dict]):
        import wandb

        id_file = folder / ID_FILE
        # A sweep's agent gives the id of each of its runs.
        run_id = id_file.read_text() if id_file.exists() else os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
        self.run = wandb.init(
            project=project,
            name=experiment.name,
            dir=folder,
            id=run_id,
            resume="allow",
            reinit="create_new",
            mode=_mode(),
            config={**dump(experiment), "timeline": entries},
            # What is drawn in place would be a log of control characters.
            settings=wandb.Settings(silent=True, console="off" if is_live(experiment.display) else "auto"),
        )
        self.settings = experiment
        write_text(id_file, self.run.id)
        task, axis = experiment.task, "trainer/global_step"
        self.run.define_metric(axis)
        self.run.define_metric("*", step_metric=axis, step_sync=True)
        self.run.define_metric(f"val/{task.main_metric}", step_metric=axis, step_sync=True, summary=task.metric_mode)
        super().__init__(project=project, save_dir=folder, experiment=self.run)

    def describe(self) -> str:
        """Return the address of the run, or how to upload it."""
        if _mode() == "disabled":
            return "wandb: disabled"
        if self._is_offline:
            return f"wandb: offline; upload with `wandb sync {self._save_dir}/wandb/offline-run-*-{self.run.id}`"
        return f"wandb: {self.run.url}"

    @property
    def _is_offline(self) -> bool:
        return _mode() in _WITHOUT_LOGIN

    def log_results(self, results: Results) -> None:
        """Log tables, pictures and ratios, and the models as artifacts: the teachers as inputs, the rest as outputs."""
        import wandb

        report, run = results.report, self.run
        tables = {name: wandb.Table(columns=columns, data=data) for name, (columns, data) in results.tables().items()}
        run.log({f"tables/{name}": table for name, table in tables.items()})
        run.log({f"pictures/{name}": wandb.Image(figure) for name, figure in results.figures.items()})
        run.summary.update(report["ratios"])
        if not self._is_offline:  # wandb cannot declare inputs offline; their names are in the metadata
            for holder in model_holders(self.settings):
                self._use(holder.model)
        name, inputs = _artifact_name(report["name"]), [holder.model for holder in model_holders(self.settings)]
        facts = {"made_from": inputs, "task": report["task"], **report["ratios"]}
        student = wandb.Artifact(f"{name}-student", "model", metadata=facts | report["models"]["student"])
        for file in sorted(results.folder.glob("student/**/*")):  # add_dir prints a line
            if file.is_file():
                student.add_file(str(file), name=str(file.relative_to(results.folder / "student")))
        run.log_artifact(student)
        for export in report["exports"]:
            facts = {"made_from": [f"{name}-student"], **export}
            artifact = wandb.Artifact(f"{name}-{_artifact_name(export['format'])}", "model", metadata=facts)
            artifact.add_file(str(results.folder / export["path"]))
            run.log_artifact(artifact)

    def _use(self, model: str) -> None:
        """Declare a model as an input: the student of an earlier tracked run, else a reference to hub or folder."""
        import wandb

        folder = Path(model)
        if (folder / ID_FILE).exists():
            try:
                self.run.use_artifact(f"{_artifact_name(folder.name)}-student:latest", type="model")
                return
            except Exception:  # tracked in another project or offline, and not uploaded yet
                pass
        artifact = wandb.Artifact(_artifact_name(model.strip("/")), "model", metadata={"model": model})
        address = folder.resolve().as_uri() if folder.exists() else f"https://huggingface.co/{model}"
        artifact.add_reference(address, name="model", checksum=False)
        self.run.use_artifact(artifact)

    def close(self, failed: bool) -> None:
        """Finish the run; the rest of it is uploaded."""
        self.run.finish(exit_code=int(failed))


def _artifact_name(text: str) -> str:
    """Return a text as the name of an artifact."""
    return re.sub(r"[^\w.-]+", "-", text)[-100:]
