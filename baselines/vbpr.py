"""VBPR: matrix factorisation that sees items' pictures, learnt from pairs of items (He and McAuley, 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.factor_training import FactorOptions

_INITIAL_DEVIATION = 0.1


@dataclass(frozen=True, kw_only=True)
class VBPROptions(FactorOptions):
    """How VBPR is built and trained; part of a cell's key.

    Attributes:
        factors: Width of the latent factors, gamma in the paper.
        visual_factors: Width of the visual factors, theta.
        regularisation: Weight of half the squared factors and biases of a pair, lambda.
    """

    learning_rate: float = 1e-2
    factors: int = 32
    visual_factors: int = 32
    regularisation: float = 1e-2

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If one is out of range.
        """
        super().__post_init__()
        self.check(at_least_one=("factors", "visual_factors"), not_negative=("regularisation",))


class VBPR(nn.Module):
    """Scores user u and item i by ``beta_i + gamma_u gamma_i + theta_u (E f_i) + beta' f_i``.

    Terms that all items of a user share, the mean and the user's bias, change no order and are left out.

    Args:
        features: Float32 [n_items, width], visual features f.
        has_image: Bool [n_items]; what has no picture has no visual part.
        known: Bool [n_users], users with training items; the others are scored by biases alone.
        options: Widths and regularisation.
    """

    visual: Tensor

    def __init__(
        self, *, features: np.ndarray, has_image: np.ndarray, known: np.ndarray, options: VBPROptions
    ) -> None:
        super().__init__()
        self._weight = options.regularisation
        n_users, n_items = len(known), len(features)
        self.register_buffer("visual", torch.from_numpy(centred(features, has_image)), persistent=False)
        self.user_factors = nn.Parameter(torch.randn(n_users, options.factors) * _INITIAL_DEVIATION)
        self.item_factors = nn.Parameter(torch.randn(n_items, options.factors) * _INITIAL_DEVIATION)
        self.visual_factors = nn.Parameter(torch.randn(n_users, options.visual_factors) * _INITIAL_DEVIATION)
        self.projection = nn.Parameter(
            torch.randn(features.shape[1], options.visual_factors) * _INITIAL_DEVIATION
        )
        self.visual_bias = nn.Parameter(torch.zeros(features.shape[1]))
        self.item_bias = nn.Parameter(torch.zeros(n_items))
        with torch.no_grad():
            for table in (self.user_factors, self.visual_factors):
                table[torch.from_numpy(~known)] = 0.0

    def loss(self, users: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
        """Return the mean over pairs of ``-ln sigmoid(x_ui - x_uj)`` and what regularises its factors."""
        visual = self.visual[items] - self.visual[negatives]
        latent = self.item_factors[items] - self.item_factors[negatives]
        difference = self.item_bias[items] - self.item_bias[negatives] + visual @ self.visual_bias
        difference = difference + (self.user_factors[users] * latent).sum(-1)
        difference = difference + (self.visual_factors[users] * (visual @ self.projection)).sum(-1)
        squared = sum(
            (table[rows] ** 2).sum()
            for table, rows in (
                (self.user_factors, users),
                (self.visual_factors, users),
                (self.item_factors, items),
                (self.item_factors, negatives),
                (self.item_bias, items),
                (self.item_bias, negatives),
            )
        )
        return F.softplus(-difference).mean() + self._weight / 2 * squared / len(users)

    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return float [n_users, k], [n_items, k] and [n_items]: latent and visual factors side by side."""
        users = torch.cat([self.user_factors, self.visual_factors], dim=1)
        items = torch.cat([self.item_factors, self.visual @ self.projection], dim=1)
        return users, items, self.item_bias + self.visual @ self.visual_bias


def centred(features: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return features of length 1 around their mean, scaled to a mean square length of 1; zeros where absent.

    What all items share cancels between the two items of a pair, and only slows training down.

    Args:
        features: Float32 [n_items, width].
        present: Bool [n_items].
    """
    values = np.zeros(features.shape, dtype=np.float32)
    some = np.asarray(features[present], dtype=np.float32)
    some = some / np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12)
    some = some - some.mean(axis=0)
    values[present] = some / max(float(np.sqrt((some**2).sum(axis=1).mean())), 1e-12)
    return values
