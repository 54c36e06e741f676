"""Weights & Biases: offline unless ``WANDB_MODE`` says otherwise, so that nothing leaves the machine unasked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bench.trackers.tracked import Tracked, imported, tracking_folder
from bench.trackers.trackio_runs import pixels
from illmrec.files import writing

_PROJECT = "illmrec"
_SECONDS = 20


class WandbRuns:
    """Runs in ``WANDB_DIR``, else below the folder of results; ``wandb sync`` sends them.

    Args:
        out: Folder of results.
    """

    def __init__(self, out: Path) -> None:
        self._wandb = imported("wandb", "wandb")
        self._folder = Path(os.environ.get("WANDB_DIR") or tracking_folder(out, "wandb"))
        self._mode = os.environ.get("WANDB_MODE", "offline")
        online = self._mode not in ("offline", "disabled", "dryrun")
        self._online = online
        self.destination = (
            os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai") if online else str(self._folder)
        )

    def check(self) -> None:
        """Make its folder; online ask the server who one is."""
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        if self._online:
            _ = self._wandb.Api(timeout=_SECONDS).viewer

    def log(self, run: Tracked) -> None:
        """Write a run; the server knows it by its id, and on disk an earlier try is removed."""
        for old in (self._folder / "wandb").glob(f"offline-run-*-{run.id}"):
            shutil.rmtree(old)
        wandb = self._wandb
        made = wandb.init(
            project=_PROJECT,
            group=run.experiment,
            id=run.id,
            name=run.name,
            config={**run.tags, **run.parameters},
            dir=str(self._folder),
            mode=self._mode,
            resume="allow" if self._online else None,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=_SECONDS, x_disable_stats=True, save_code=False
            ),
        )
        images = {name: wandb.Image(pixels(figure)) for name, figure in run.figures.items()}
        made.log({**run.metrics, **images}, step=0)
        made.finish()
