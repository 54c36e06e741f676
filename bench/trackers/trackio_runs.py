"""Trackio: a project of its own, in a local database or in the Space that is named."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.trackers.tracked import Tracked, imported, tracking_folder
from illmrec.files import writing

_PROJECT = "illmrec"


class TrackioRuns:
    """Runs in the folder ``TRACKIO_DIR``, else below the folder of results; in ``TRACKIO_SPACE_ID`` where that is set.

    Args:
        out: Folder of results.
    """

    def __init__(self, out: Path) -> None:
        # Read when the package is imported.
        os.environ.setdefault("TRACKIO_DIR", str(tracking_folder(out, "trackio")))
        self._trackio = imported("trackio", "trackio")
        folder = str(self._trackio.utils.TRACKIO_DIR)  # another one, where a library imported it before
        self._space = os.environ.get("TRACKIO_SPACE_ID")
        self._folder = Path(folder)
        self.destination = self._space or folder

    def check(self) -> None:
        """Make its folder, or ask the hub for the Space."""
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        if self._space:
            from huggingface_hub import HfApi

            HfApi().whoami()

    def log(self, run: Tracked) -> None:
        """Write a run."""
        trackio, name = self._trackio, f"{run.name} {run.id}"
        if not self._space:
            with contextlib.suppress(ValueError):  # no such project yet
                for old in trackio.Api().runs(_PROJECT):
                    if old.name == name:
                        old.delete()
        images = {
            figure: trackio.Image(pixels(drawn), caption=figure) for figure, drawn in run.figures.items()
        }
        with contextlib.redirect_stdout(io.StringIO()):  # what it prints on every run
            trackio.init(
                project=_PROJECT,
                name=name,
                group=run.experiment,
                config={**run.tags, **run.parameters},
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            try:
                trackio.log({**run.metrics, **images})
            finally:
                trackio.finish()


def pixels(figure: Figure) -> np.ndarray:
    """Return a figure as uint8 [height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
