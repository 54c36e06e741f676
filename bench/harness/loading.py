"""The data set of a run, with what its user should know of it."""

from __future__ import annotations

import logging

import numpy as np

from bench.harness.settings import Settings
from illmrec.data import load_dataset
from illmrec.data.dataset import Dataset
from illmrec.data.time_resolution import known_times

logger = logging.getLogger(__name__)


def loaded_dataset(settings: Settings) -> Dataset:
    """Load the data set that settings name; the log says its size, what was dropped, and what is not decided by it.

    Args:
        settings: Resolved settings.

    Raises:
        InputError: If it cannot be loaded.
    """
    dataset = load_dataset(**settings.dataset_arguments())
    dropped = ", ".join(f"{count:,} {what}" for what, count in dataset.dropped.items() if count)
    statistics = dataset.statistics()
    logger.info(
        "%s: %s users, %s items, %s interactions, %.1f on average, pictures of %.4g %% of the items%s",
        dataset.name,
        *(f"{statistics[name]:,}" for name in ("users", "items", "interactions")),
        statistics["avg_length"],
        100 * float(statistics["images"]),
        f"; dropped: {dropped}" if dropped else "",
    )
    if dataset.repeated:
        logger.warning(
            "%s: %s rows repeat another in user, item and time and are kept, as --duplicates says",
            dataset.name,
            f"{dataset.repeated:,}",
        )
    if dataset.tied_targets:
        moments = (
            "the last two interactions of %.1f %% of the users have one time: which of them is tested is"
        )
        days = (
            "times tell the day alone, and the last two interactions of %.1f %% of the users fall on one: the order "
            "within a day is"
        )
        logger.warning(
            f"%s: {moments if dataset.days_begin is None else days} %s",
            dataset.name,
            100 * dataset.tied_targets,
            "drawn by lot" if settings.ties == "drawn" else "the table's order; --ties drawn draws it by lot",
        )
    if dataset.points is not None and dataset.days_begin is not None:
        points = np.array(dataset.points)
        if (points != known_times(points, dataset.days_begin)).any():
            logger.warning(
                "%s: --split global-time cuts a day by the table's order; --ties drawn cuts between days",
                dataset.name,
            )
    return dataset
