"""TensorBoard: a folder of event files for each run."""

from __future__ import annotations

import json
from pathlib import Path

from bench.trackers.tracked import Tracked, imported, tracking_folder
from illmrec.files import atomic_directory, writing


class TensorBoardRuns:
    """Runs as folders, ``EXPERIMENT/ID``, for ``tensorboard --logdir``.

    Args:
        out: Folder of results.
    """

    def __init__(self, out: Path) -> None:
        imported("tensorboard", "tensorboard")
        self._folder = tracking_folder(out, "tensorboard")
        self.destination = str(self._folder)

    def check(self) -> None:
        """Make its folder."""
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)

    def log(self, run: Tracked) -> None:
        """Write a run, whole or not at all."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        place = self._folder / run.experiment / run.id
        with atomic_directory(place) as folder, SummaryWriter(str(folder)) as writer:
            for summary in hparams(dict(run.parameters), dict.fromkeys(run.metrics, 0.0)):
                writer.file_writer.add_summary(summary)
            for name, value in run.metrics.items():
                writer.add_scalar(name, value)
            for name, figure in run.figures.items():
                writer.add_figure(name, figure)
            described = json.dumps({"name": run.name, **run.tags, **run.parameters}, indent=1)
            # As code: names of data are text and no markup.
            writer.add_text("cell", "\n".join(f"    {line}" for line in described.splitlines()))
