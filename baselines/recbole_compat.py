"""Everything RecBole needs to run on today's stack and without side effects, in one place.

RecBole 1.2.1 was written for numpy 1 and for being the whole program. Imported as a library it

* reads numpy aliases that numpy 2 removed,
* parses (and evaluates) the options in ``sys.argv`` as its own configuration,
* overwrites ``CUDA_VISIBLE_DEVICES``,
* logs through the root logger,
* opens a tensorboard log and a checkpoint folder in the working directory,
* unpickles cached data sets and checkpoints it finds there (so ``create_dataset``, ``data_preparation``,
  ``quick_start`` and ``load_best_model=True`` are not used),
* turns on autograd's anomaly detection when its sequential models are imported (a quarter of the time),
* reseeds the generators of the whole process.

The functions here take care of each. Nothing else in the project touches RecBole's environment.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from illmrec.errors import UnsupportedError

logger = logging.getLogger(__name__)

# numpy 2 removed these names; Config reads them when it is constructed, Interaction later on.
_NUMPY_ALIASES: Mapping[str, Any] = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}

_MODULES = (
    "recbole.config",
    "recbole.data.dataset",
    "recbole.data.utils",
    "recbole.model.sequential_recommender",
    "recbole.trainer",
)


class _SilentWriter:
    """Stands in for tensorboard's writer, which would create a folder in the user's working directory."""

    def add_scalar(self, *args: object, **kwargs: object) -> None:
        """Drop a logged scalar."""

    def add_hparams(self, *args: object, **kwargs: object) -> None:
        """Drop logged hyper-parameters."""


def _recbole_logger(name: str | None = None) -> logging.Logger:
    """Give RecBole a logger of its own where it asks for the root logger."""
    return logging.getLogger(f"{__name__}.recbole")


_REMEDY = (
    'pip install "illmrec[recbole]"'
    if sys.version_info < (3, 12)
    else 'pip install "illmrec[recbole]" && pip install --no-deps recbole==1.2.1'
)
"""Its own dependencies cannot be had on newer Pythons, and are not used here."""


def require_recbole() -> None:
    """Import RecBole and adapt it; cheap when it was done before.

    Raises:
        InputError: If RecBole is not installed or cannot be imported.
    """
    for name, value in _NUMPY_ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, value)
    anomaly_detection = torch.is_anomaly_enabled()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in _MODULES:
                importlib.import_module(module)
    except ImportError as error:
        raise UnsupportedError(
            f"SASRec, GRU4Rec, BERT4Rec, eSASRec and CF features need RecBole ({error}): {_REMEDY}; without it "
            "popularity, random, every text representation and I-LLMRec still work with image and text features "
            "(bench.comparison --features image,text)"
        ) from error
    finally:
        torch.autograd.set_detect_anomaly(anomaly_detection)
    _recbole_logger().setLevel(max(logging.WARNING, logger.getEffectiveLevel()))
    for name, loaded in list(sys.modules.items()):
        if name.startswith("recbole.") and hasattr(loaded, "getLogger"):
            loaded.getLogger = _recbole_logger  # type: ignore[attr-defined]
    trainer: Any = importlib.import_module("recbole.trainer.trainer")
    trainer.get_tensorboard = lambda _: _SilentWriter()


def recbole_config(model: str, settings: Mapping[str, Any], *, device: torch.device) -> Any:
    """Construct RecBole's Config from its defaults for a model and our settings, and from nothing else.

    Args:
        model: RecBole's class name, e.g. "SASRec"; selects the file of defaults.
        settings: RecBole's configuration keys; values are numbers, None or names that this package chose
            (RecBole evaluates strings, so a user's text must not get here).
        device: Where the model runs; replaces RecBole's own choice.
    """
    require_recbole()
    from recbole.config import Config

    arguments, visible = sys.argv, os.environ.get("CUDA_VISIBLE_DEVICES")
    sys.argv = arguments[:1]
    try:
        config = Config(model=model, dataset="illmrec", config_dict=dict(settings))
    finally:
        sys.argv = arguments
        if visible is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
    config["device"] = device
    config["use_gpu"] = device.type != "cpu"
    return config


@contextlib.contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seed every generator that RecBole draws from; put them back afterwards, so nobody's numbers change."""
    from recbole.utils import init_seed

    python_state, numpy_state = random.getstate(), np.random.get_state()
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            # RecBole uses much of torch, numpy and pandas that is deprecated; users can do nothing about it.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            # RecBole wraps pandas' read-only columns into tensors that it only reads.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            init_seed(seed, reproducibility=True)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
