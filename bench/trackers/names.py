"""The trackers by name; nothing that draws figures is imported here."""

from __future__ import annotations

from typing import Literal

TrackerName = Literal["mlflow", "tensorboard", "trackio", "wandb"]
