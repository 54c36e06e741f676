"""eSASRec: SASRec with LiGR blocks, whose parts are gated before they are added, and a sampled softmax.

Import only after ``recbole_compat.require_recbole()``: RecBole's trainer runs it as it runs RecBole's own networks.

Shape legend: b histories, t items, d width, h heads, k d / h.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn

from baselines.recbole_networks import EveryPosition

_INITIAL_DEVIATION = 0.02


class ESASRec(EveryPosition, SequentialRecommender):
    """A causal transformer over item numbers that scores by the inner product with item embeddings.

    Args:
        config: RecBole's configuration: ``hidden_size``, ``n_layers``, ``n_heads``, ``inner_size``,
            ``hidden_dropout_prob``, ``attn_dropout_prob``.
        dataset: What has the number of items, padding included.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = config["hidden_size"]
        self.item_embedding = nn.Embedding(self.n_items, width, padding_idx=0)
        self.position_embedding = nn.Embedding(self.max_seq_length, width)
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])
        self.blocks = nn.ModuleList(
            LiGRBlock(
                width=width,
                heads=config["n_heads"],
                inner=config["inner_size"],
                dropout=config["hidden_dropout_prob"],
                attention_dropout=config["attn_dropout_prob"],
            )
            for _ in range(config["n_layers"])
        )
        self.norm = nn.LayerNorm(width)
        self.apply(_initialise)

    def forward(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        """Return the state after the last item, [b, d].

        Args:
            sequences: Int64 [b, t], item row + 1, padded with 0 on the right.
            lengths: Int64 [b].
        """
        places = torch.arange(sequences.shape[1], device=sequences.device)
        states = self.dropout(self.item_embedding(sequences) + self.position_embedding(places))
        for block in self.blocks:
            states = block(states)  # what pads stands on the right: no item sees it
        found: Tensor = self.gather_indexes(self.norm(states), lengths - 1)
        return found

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Return the scores of all ids, [b, n_items]."""
        states = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return states @ self.item_embedding.weight.T


class LiGRBlock(nn.Module):
    """``x + sigmoid(G x) * part(norm(x))`` for causal self-attention, then for a SwiGLU feed-forward.

    Args:
        width: d.
        heads: h, which divides d.
        inner: Width inside the feed-forward.
        dropout: For the output of each part, and inside the feed-forward.
        attention_dropout: For attention weights.
    """

    def __init__(
        self, *, width: int, heads: int, inner: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.attention = CausalAttention(width=width, heads=heads, dropout=attention_dropout)
        self.feed_forward = SwiGLU(width=width, inner=inner, dropout=dropout)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention_gate, self.feed_forward_gate = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Return the states after the block, [b, t, d]."""
        found = self.attention(self.attention_norm(states))
        states = states + self.dropout(torch.sigmoid(self.attention_gate(states)) * found)
        found = self.feed_forward(self.feed_forward_norm(states))
        return states + self.dropout(torch.sigmoid(self.feed_forward_gate(states)) * found)


class CausalAttention(nn.Module):
    """Self-attention in which an item sees itself and those before it."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """Return what each item attends to, [b, t, d]."""
        b, t, d = states.shape
        query, key, value = (
            part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.into(states).split(d, dim=-1)
        )  # [b, h, t, k]
        rate = self.rate if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
        found: Tensor = self.out(seen.transpose(1, 2).reshape(b, t, d))
        return found


class SwiGLU(nn.Module):
    """Feed-forward ``W (silu(U x) * V x)`` without biases."""

    def __init__(self, *, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Return [b, t, d]."""
        gate, value = self.into(states).chunk(2, dim=-1)
        found: Tensor = self.out(self.dropout(F.silu(gate) * value))
        return found


def _initialise(module: nn.Module) -> None:
    """Draw weights as RecBole's transformers do."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=_INITIAL_DEVIATION)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
