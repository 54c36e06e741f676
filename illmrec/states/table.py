"""State tables: one memory-mapped row a position, standardised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from illmrec import checksums
from illmrec.errors import DamagedError, InputError
from illmrec.files import hash_json, loaded_npy, parsed_json

FORMAT = 1
_REMEDY = "delete the folder to compute it again"

StateDtype = Literal["float16", "bfloat16", "float32"]
STATE_DTYPES: tuple[str, ...] = get_args(StateDtype)
NUMPY_DTYPES: dict[str, Any] = {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}
TORCH_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class StateTable:
    """What was read out at each position, standardised.

    Attributes:
        values: [positions, width] in a state data type, on disk until it is read.
        key: 16 hexadecimal digits over everything the values depend on; also the name of the folder.
        meta: What they depend on, seconds, tokens, and the error of the data type.
    """

    values: Tensor
    key: str
    meta: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """Numbers a position."""
        return int(self.values.shape[1])

    def rows(self, at: np.ndarray | slice, device: torch.device | str = "cpu") -> Tensor:
        """Return some rows, float32 [rows, width], on a device."""
        index = at if isinstance(at, slice) else torch.from_numpy(at)
        return self.values[index].to(device).float()

    @classmethod
    def open(cls, directory: Path) -> StateTable:
        """Open a finished table; the first time in a process all of it is read, for its checksums.

        Raises:
            DamagedError: If the folder is not a whole table.
            InputError: If it is another one, or of another version.
        """
        try:
            checksums.check(directory, remedy=_REMEDY)
            described = parsed_json((directory / "meta.json").read_text(encoding="utf-8"))
            for name, wanted in (("format", FORMAT), ("key", directory.name)):
                if described[name] != wanted:
                    raise InputError(
                        f"{directory} is no state table of this version's: its {name} is {described[name]}, not "
                        f"{wanted}; {_REMEDY}"
                    )
            values = loaded_npy(directory / "values.npy", mode="c")
            shape, dtype = (described["positions"], described["width"]), described["dtype"]
            if values.ndim != 2 or values.shape != shape or values.dtype != NUMPY_DTYPES[dtype]:
                raise ValueError(f"values {values.dtype} {values.shape}, expected {dtype} {shape}")
            if not values.flags.c_contiguous:
                raise ValueError("values lie column by column")
            if not isinstance(described["meta"], dict):
                raise ValueError("what it says of itself is of the wrong type")
        except InputError:
            raise
        except checksums.ARRAY_ERRORS as error:
            raise DamagedError(
                f"{directory} is not a whole state table ({next(iter(str(error).splitlines()), 'damaged')}); {_REMEDY}"
            ) from error
        return cls(
            values=torch.from_numpy(values).view(TORCH_DTYPES[dtype]),
            key=described["key"],
            meta=described["meta"],
        )


def in_memory(values: Tensor, *, meta: Mapping[str, Any]) -> StateTable:
    """Return a table of states that are not stored.

    Args:
        values: Float32 [positions, width].
        meta: What they depend on.
    """
    measured = {"seconds": 0.0, "rms_error": 0.0, "largest_error": 0.0}
    return StateTable(values=values, key=hash_json(dict(meta)), meta={**measured, **meta})
