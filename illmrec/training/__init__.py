"""Training of the parts around the frozen LLM."""

from illmrec.training.cached import CachedReport, CachedTrainer
from illmrec.training.options import CachedOptions, TrainingOptions, preset_options
from illmrec.training.trainer import Trainer, TrainingReport

__all__ = [
    "CachedOptions",
    "CachedReport",
    "CachedTrainer",
    "Trainer",
    "TrainingOptions",
    "TrainingReport",
    "preset_options",
]
