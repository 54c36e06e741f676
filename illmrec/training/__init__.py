"""Training of the parts around the frozen LLM."""

from illmrec.training.options import TrainingOptions, preset_options
from illmrec.training.trainer import Trainer, TrainingReport

__all__ = ["Trainer", "TrainingOptions", "TrainingReport", "preset_options"]
