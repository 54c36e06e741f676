"""What a pass of the engine costs, from the shapes alone."""

from __future__ import annotations

from illmrec.model.backbone import Backbone
from illmrec.prompts.packing import Packed


def forward_flops(backbone: Backbone, packed: Packed) -> float:
    """Return the FLOPs of one forward pass over packed prompts (multiply and add count as two).

    Counted: matrices of the blocks for every token, the last block's MLP only where its output is read, and queries
    against keys and weights against values for every pair that may attend. Neither the prefix, which is run once, nor
    the LM head, which retrieval never touches, is counted.
    """
    config = backbone.model.config.get_text_config()
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pairs = 4.0 * config.num_attention_heads * head_width * backbone.layers * packed.attended_pairs()
    read = len(packed.rec_positions) + len(packed.answer_positions)
    unread = 2.0 * backbone.last_mlp_parameters * (packed.tokens - read)
    return 2.0 * backbone.block_parameters * packed.tokens - unread + pairs


def training_memory(backbone: Backbone, packed: Packed) -> int:
    """Return the bytes that a pass keeps for its backward pass through a frozen LLM, attention by matrix products.

    For each token and block: the inputs of two norms in float32, queries, keys and values as attention reads them, and
    three vectors of the MLP (gate, its activation, up), ``8 w + e (w + 2 k + 3 m)`` bytes for width w, key width k,
    MLP width m and e bytes a number; and ``e`` for each attention head and scored pair. A frozen linear layer keeps
    nothing, since the gradient of its input needs its weights alone. The whole peak adds the weights, the logits of one
    chunk of answers, and what a block holds for a moment.

    Where attention does not go by matrix products (on CUDA, without gradients, above
    :data:`~illmrec.model.attention.DENSE_PAIRS`), the scores are not kept and this is an upper bound.
    """
    config = backbone.model.config.get_text_config()
    size = backbone.dtype.itemsize
    heads = config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    prefix, width = len(packed.prefix), config.hidden_size
    lengths, trunks = packed.lengths, packed.trunk_lengths
    pairs = int((trunks * (prefix + trunks) + (lengths - trunks) * (prefix + lengths)).sum())
    keys = (packed.tokens + prefix * len(lengths)) * head_width * heads // backbone.heads_per_key
    norms, queries = 8 * width, size * heads * head_width
    block = packed.tokens * (norms + queries) + 2 * size * keys + size * heads * pairs
    read = len(packed.rec_positions) + len(packed.answer_positions)
    mlp = 3 * size * config.intermediate_size
    last_norm = 4 * width * packed.tokens
    return backbone.layers * block + mlp * ((backbone.layers - 1) * packed.tokens + read) + last_norm
