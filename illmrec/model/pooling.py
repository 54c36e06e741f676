"""States of an LLM without blocks: what a token may see is averaged, which is attention that has learnt nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from illmrec.prompts.packing import Packed


def pooled_inputs(packed: Packed, inputs: Tensor, prefix: Tensor, positions: np.ndarray) -> Tensor:
    """Return the mean of the input embeddings that tokens may see, their own included.

    Cost: two running sums over the row.

    Args:
        packed: The prompts.
        inputs: [N, width], what enters the LLM.
        prefix: [P, width], the embeddings of the prefix, which every token sees.
        positions: Int [n], the tokens.

    Returns:
        [n, width], of the inputs' data type; gradients flow to ``inputs``.
    """
    users = np.repeat(np.arange(len(packed.lengths)), packed.lengths)
    starts = (np.cumsum(packed.lengths) - packed.lengths)[users]
    branches = np.arange(packed.tokens)
    # The first token of each branch; a branch is contiguous.
    first = np.flatnonzero(np.diff(packed.branch, prepend=-1) | (np.diff(users, prepend=-1) != 0))
    begins = first[np.searchsorted(first, branches, side="right") - 1]
    start, visible, begin = starts[positions], packed.visible[positions], begins[positions]
    own = np.where(packed.branch[positions] > 0, positions - begin + 1, 0)

    def index(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(inputs.device)

    sums = torch.nn.functional.pad(inputs.double().cumsum(dim=0), (0, 0, 1, 0))
    trunk = sums[index(start + visible)] - sums[index(start)]
    branch = sums[index(positions + 1)] - sums[index(positions + 1 - own)]
    seen = index(len(prefix) + visible + own).double()
    pooled: Tensor = (prefix.double().sum(dim=0) + trunk + branch) / seen[:, None]
    return pooled.to(inputs.dtype)
