"""TIGER: an encoder-decoder that reads a history as semantic IDs and writes the next item's (Rajput et al., 2023).

The network is T5's, of the transformers library, trained from scratch by its own forward pass. Writing has one of its
own here, which computes a history's keys and values once for all beams, and a beam's tokens once for all that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from baselines.factor_training import FactorOptions
from baselines.generative.quantiser import QuantiserOptions, usual_codebook
from illmrec.errors import InputError

_EXACT_BUCKETS = 16
"""Distances below this have a bias of their own in T5's decoder; an identifier is shorter."""
_LEAST_CODEBOOK = 8


@dataclass(frozen=True, kw_only=True)
class TigerOptions(FactorOptions):
    """How TIGER is built and trained; part of a cell's key.

    Attributes:
        batch_size: Targets in a step.
        levels: Codes of an item, the last of which tells those apart whose other ones are the same.
        codebook: Codes of a level; None suits it to the size of the catalogue.
        width: Of embeddings; the feed-forward is 4 times as wide.
        layers: Blocks of the encoder, and of the decoder.
        heads: Attention heads.
        dropout: T5's.
        max_length: Longest history that is read, in items.
        targets_per_user: Targets that an epoch draws from a user's items at most.
        warm_up: Steps in which the learning rate rises.
        exact_items: Every item of a catalogue up to this size has its exact probability; of a larger one those that a
            beam search finds.
        beams: Of that search.
    """

    batch_size: int = 64
    levels: int = 4
    codebook: int | None = None
    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    max_length: int = 20
    targets_per_user: int = 20
    warm_up: int = 200
    exact_items: int = 20_000
    beams: int = 50

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If one is out of range.
        """
        super().__post_init__()
        counts = ("width", "layers", "heads", "max_length", "targets_per_user", "beams")
        self.check(at_least_one=counts, not_negative=("warm_up", "exact_items", "dropout"))
        if not self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}; give 0 to below 1")
        if self.width % self.heads:
            raise InputError(f"width {self.width} does not divide into {self.heads} heads; change one")
        if self.levels > _EXACT_BUCKETS:
            raise InputError(f"levels is {self.levels}; give at most {_EXACT_BUCKETS}")
        self.quantiser(1)

    def quantiser(self, n_items: int) -> QuantiserOptions:
        """Return how the items of a catalogue become codes; a small one has enough of them to tell items apart."""
        codebook = self.codebook or max(_LEAST_CODEBOOK, usual_codebook(n_items))
        return QuantiserOptions(levels=self.levels, codebook=codebook, collisions="extra")


class Tiger(nn.Module):
    """T5 over a vocabulary of codes, those of each level apart; 0 pads histories and begins what is written.

    Args:
        codes: Int [n_items, levels], the semantic IDs, no two alike.
        options: Widths, layers and dropout.

    Attributes:
        tokens: Int64 [n_items, levels], what an item is written by.
    """

    tokens: Tensor

    def __init__(self, *, codes: np.ndarray, options: TigerOptions) -> None:
        super().__init__()
        sizes = codes.max(axis=0) + 1
        first = 1 + np.cumsum(sizes) - sizes
        self.register_buffer("tokens", torch.from_numpy((codes + first).astype(np.int64)), persistent=False)
        self._max_length = options.max_length
        settings: dict[str, Any] = {
            "vocab_size": int(1 + sizes.sum()),
            "d_model": options.width,
            "d_kv": options.width // options.heads,
            "d_ff": 4 * options.width,
            "num_layers": options.layers,
            "num_heads": options.heads,
            "dropout_rate": options.dropout,
            "pad_token_id": 0,
            "decoder_start_token_id": 0,
            "eos_token_id": None,
        }
        self.t5 = transformers.T5ForConditionalGeneration(transformers.T5Config(**settings))

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return int(self.t5.config.vocab_size)

    def loss(self, histories: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of the tokens of the next items, their mean.

        Args:
            histories: Int64 [users, items], item rows, oldest first, filled up on the right with any.
            lengths: Int64 [users], items of each history.
            targets: Int64 [users], item rows.
        """
        tokens, read = self._inputs(histories, lengths)
        loss: Tensor = self.t5(
            input_ids=tokens, attention_mask=read.long(), labels=self.tokens[targets], use_cache=False
        ).loss
        return loss

    def encode(self, histories: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Return what the decoder reads of histories: float [users, tokens, width], and bool [users, tokens].

        Args:
            histories: Item rows, oldest first; the last ``max_length`` are read.

        Raises:
            InputError: If a history is empty.
        """
        part = [np.asarray(history)[-self._max_length :] for history in histories]
        lengths = np.fromiter(map(len, part), np.int64, len(part))
        if not lengths.all():
            raise InputError(f"history {int(lengths.argmin())} is empty: tiger needs one item")
        inside = np.arange(lengths.max()) < lengths[:, None]
        items = np.zeros(inside.shape, dtype=np.int64)
        items[inside] = np.concatenate(part)
        device = self.tokens.device
        tokens, read = self._inputs(*(torch.from_numpy(values).to(device) for values in (items, lengths)))
        states = self.t5.encoder(input_ids=tokens, attention_mask=read.long()).last_hidden_state
        return states, read

    def _inputs(self, histories: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return token ids and which of them are read, [users, items x levels]."""
        inside = torch.arange(histories.shape[1], device=histories.device) < lengths[:, None]
        tokens = self.tokens[histories].masked_fill(~inside[..., None], 0).flatten(1)
        return tokens, inside.repeat_interleave(self.tokens.shape[1], dim=1)


class TigerWriter:
    """The decoder as a :class:`~baselines.generative.beam_search.Writer` for some users.

    A step computes one token of each beam: keys and values of what a beam has written are kept, those of its user's
    history are shared by all beams of the user.

    Args:
        network: In evaluation mode.
        histories: Item rows of each user, oldest first.
    """

    def __init__(self, network: Tiger, histories: Sequence[np.ndarray]) -> None:
        self._t5: Any = network.t5
        states, read = network.encode(histories)
        self._users = len(states)
        hidden = torch.zeros(read.shape, dtype=states.dtype, device=states.device)
        self._unread = hidden.masked_fill(~read, torch.finfo(states.dtype).min)[:, None, None]
        self._history = []
        decoder: Any = self._t5.decoder
        for block in decoder.block:
            attention = block.layer[1].EncDecAttention
            keys, values = (
                projection(states).unflatten(-1, (attention.n_heads, -1)).transpose(1, 2)
                for projection in (attention.k, attention.v)
            )
            self._history.append((keys, values))
        self._written: list[tuple[Tensor, Tensor]] = []
        self._user = torch.arange(self._users, device=states.device)

    def begin(self) -> Tensor:
        """Return the logits of every user's first token, float [users, vocabulary]."""
        self._user = torch.arange(self._users, device=self._user.device)
        self._written = []
        return self._logits(torch.zeros_like(self._user))

    def step(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits after one more token, float [beams, vocabulary].

        Args:
            parents: Int64 [beams], the row of the last call that each beam goes on from, users one after the other.
            tokens: Int64 [beams], what it has written since.
        """
        self._user = self._user[parents]
        self._written = [(keys[parents], values[parents]) for keys, values in self._written]
        return self._logits(tokens)

    def _logits(self, tokens: Tensor) -> Tensor:
        decoder = self._t5.decoder
        hidden = decoder.embed_tokens(tokens)
        place = _Places(self._user, users=self._users)
        for number, block in enumerate(decoder.block):
            own, over, forward = block.layer
            hidden = hidden + self._over_written(own.SelfAttention, own.layer_norm(hidden), number)
            hidden = hidden + self._over_history(over.EncDecAttention, over.layer_norm(hidden), number, place)
            hidden = forward(hidden)
        logits: Tensor = self._t5.lm_head(decoder.final_layer_norm(hidden) * self._t5.model_dim**-0.5)
        return logits

    def _over_written(self, attention: Any, hidden: Tensor, number: int) -> Tensor:
        """Return what attention reads of a beam's own tokens, float [beams, width]."""
        query, key, value = (
            projection(hidden).unflatten(-1, (attention.n_heads, -1))[:, :, None]
            for projection in (attention.q, attention.k, attention.v)
        )
        if number < len(self._written):
            before = self._written[number]
            key, value = (torch.cat(pair, dim=2) for pair in zip(before, (key, value), strict=True))
            self._written[number] = (key, value)
        else:
            self._written.append((key, value))
        near = self._t5.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        bias = near[torch.arange(key.shape[2] - 1, -1, -1, device=key.device)].T[None, :, None]
        weights = (query @ key.transpose(2, 3) + bias).softmax(dim=-1)
        read: Tensor = attention.o((weights @ value).flatten(1))
        return read

    def _over_history(self, attention: Any, hidden: Tensor, number: int, place: _Places) -> Tensor:
        """Return what attention reads of the user's history, float [beams, width]."""
        keys, values = self._history[number]
        query = place.by_user(attention.q(hidden)).unflatten(-1, (attention.n_heads, -1)).transpose(1, 2)
        weights = (query @ keys.transpose(2, 3) + self._unread).softmax(dim=-1)
        read: Tensor = attention.o(place.by_beam((weights @ values).transpose(1, 2).flatten(2)))
        return read


class _Places:
    """Rows of beams, users one after the other, as a table with a row of beams for each user, and back.

    Args:
        user: Int64 [beams], ascending.
        users: How many there are.
    """

    def __init__(self, user: Tensor, *, users: int) -> None:
        counts = torch.bincount(user, minlength=users)
        self._width = int(counts.max())
        starts = counts.cumsum(0) - counts
        self._at = user * self._width + torch.arange(len(user), device=user.device) - starts[user]
        self._users = users
        self._full = len(user) == users * self._width

    def by_user(self, rows: Tensor) -> Tensor:
        """Return [users, most beams, width] of [beams, width], zeros where a user has fewer."""
        if not self._full:
            table = rows.new_zeros(self._users * self._width, rows.shape[1])
            rows = table.index_copy(0, self._at, rows)
        return rows.view(self._users, self._width, -1)

    def by_beam(self, table: Tensor) -> Tensor:
        """Return [beams, width] of [users, most beams, width]."""
        flat = table.flatten(0, 1)
        return flat if self._full else flat[self._at]
