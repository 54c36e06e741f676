"""Names that are too long for a file system are names of nothing, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from illmrec.data import load_dataset
from illmrec.errors import InputError
from illmrec.exported import load_exported
from illmrec.features.sources import check_name
from illmrec.model.backbone import load_backbone
from illmrec.stored_models import model_folder

NAME = "/nowhere/" + "a" * 300


@pytest.mark.parametrize(
    "take",
    [
        lambda: load_dataset(f"folder:{NAME}"),
        lambda: load_backbone(NAME),
        lambda: check_name(NAME, embedded=(), kind="vision"),
        lambda: model_folder(NAME),
        lambda: load_exported(NAME),
    ],
    ids=["data set", "LLM", "encoder", "key of a model", "exported model"],
)
def test_a_name_that_is_too_long_is_that_of_nothing(take: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=NAME):
        take()
