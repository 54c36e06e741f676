"""Summaries by an LLM in this process: greedy, in batches."""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import time
from collections.abc import Container, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

from baselines.summarizer import thinking
from baselines.summarizer.chat import Prompts
from baselines.summarizer.options import ENDPOINT_CONTEXT, SummaryOptions
from baselines.summarizer.prompt import Prompt
from baselines.summarizer.store import Answer
from baselines.summarizer.text import trim
from illmrec.errors import InputError
from illmrec.files import hash_json
from illmrec.model.backbone import Backbone
from illmrec.prompts.control_tokens import control_tokens

logger = logging.getLogger(__name__)

_BATCH_TOKENS = 16384  # padding included; bounds the memory of a batch of long prompts
_EAGER_TOKENS = 2048  # attention written out keeps a matrix of scores, which long prompts have no memory for
_PROBES = ("Title: a mug", "Title: a lamp\nBrand: Acme\nDescription: It is plain, and it folds; 30 cm.")
Way = Literal["shared beginning", "padded", "alone"]


class LocalWriter:
    """Prompts and generation with one LLM.

    Generation is greedy whatever the LLM's own settings ask for: sampling, penalties, least lengths and forced tokens
    are theirs, not the benchmark's. Prompts run in batches, padded behind their common beginning, whose keys are
    computed once; where that is not what the LLM does with one prompt alone, they are padded on the left, else they
    run alone.

    Args:
        backbone: The LLM.
        options: Lengths.
        batch_size: Prompts generated together.

    Attributes:
        name: The LLM's name.
        key: What stands for all that its summaries depend on beside the prompt.
        room: Longest prompt, in tokens.

    Raises:
        InputError: If the chat template cannot be used or the context is too long or too short.
    """

    def __init__(self, *, backbone: Backbone, options: SummaryOptions, batch_size: int = 32) -> None:
        self._backbone = backbone
        self._options = options
        self._batch_size = batch_size
        self.name = backbone.name
        tokenizer, model = backbone.tokenizer, backbone.model
        self._prompts = Prompts(tokenizer=tokenizer, instruction=options.instruction, name=backbone.name)
        self._control = control_tokens(tokenizer)
        declared = model.generation_config.eos_token_id if model.can_generate() else None
        declared = list(declared) if isinstance(declared, (list, tuple, set)) else [declared]
        ends = {tokenizer.eos_token_id, self._prompts.turn_end, *declared}
        self._ends = sorted(int(token) for token in ends if token is not None)
        pad = tokenizer.pad_token_id
        self._pad = pad if pad is not None else (self._ends[0] if self._ends else 0)
        self.room = _context(backbone, options) - options.new_tokens
        if self.room <= len(self.prompt("").content):
            raise InputError(
                f"--summarizer-context {self.room + options.new_tokens}: the instruction and an answer of "
                f"{options.new_tokens} tokens leave no room for a text; lower --summary-words or raise it"
            )
        self.key = hash_json(
            {
                **options.described(),
                "llm": backbone.fingerprint,
                "layers": backbone.layers,
                "dtype": str(backbone.dtype).removeprefix("torch."),
                "ends": self._ends,
            }
        )
        self._head_cache: Any = None
        self._way: Way | None = None

    def prompt(self, text: str) -> Prompt:
        """Return the prompt for an item's text."""
        ids = self._prompts.ids(text)
        return Prompt(key=hash_json(ids), length=len(ids), content=ids)

    def write(self, prompts: Sequence[Prompt], *, known: Container[str]) -> Iterator[list[Answer]]:
        """Write batch by batch; batches of prompts of similar length, the same ones whatever is known already.

        Args:
            prompts: All prompts.
            known: Keys that need not be answered.
        """
        for batch in self._batches(sorted(prompts, key=lambda prompt: (prompt.length, prompt.key))):
            missing = [prompt for prompt in batch if prompt.key not in known]
            if not missing:
                continue
            began = time.perf_counter()
            answered = self.answers([prompt.content for prompt in batch])
            share = (time.perf_counter() - began) / len(batch)
            yield [
                Answer(key=prompt.key, text=text, cut=cut, seconds=share)
                for prompt, (text, cut) in zip(batch, answered, strict=True)
                if prompt.key not in known
            ]

    def _batches(self, prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
        batch: list[Prompt] = []
        for prompt in prompts:  # the shortest first: the last one is the batch's length
            full = (len(batch) + 1) * (prompt.length + self._options.new_tokens) > _BATCH_TOKENS
            if batch and (full or len(batch) == self._batch_size):
                yield batch
                batch = []
            batch.append(prompt)
        if batch:
            yield batch

    def answers(self, prompts: Sequence[Sequence[int]]) -> list[tuple[str, bool]]:
        """Return the trimmed answer to each prompt, and whether its end is missing.

        Raises:
            InputError: If the LLM is still thinking at the last token.
        """
        if self._way is None:
            self._way = self._agreeing_way()
        rows, _ = self._generate(prompts, way=self._way)
        answers = []
        for row in rows:
            end = next((place for place, token in enumerate(row) if token in self._ends), None)
            text = self._text(row[:end])
            answers.append(trim(text, words=self._options.max_words, finished=end is not None))
        return answers

    def _text(self, ids: Sequence[int]) -> str:
        tokenizer = self._backbone.tokenizer
        raw = tokenizer.decode(ids, skip_special_tokens=False)
        if not self._prompts.opened and not thinking.thinks(raw):
            text = tokenizer.decode(ids, skip_special_tokens=True)
        else:
            text = thinking.after_thoughts(raw, opened=self._prompts.opened, who=f"--llm {self.name}")
        for token in self._control.texts:
            text = text.replace(token, " ")
        return str(text)

    def _agreeing_way(self) -> Way:
        """Return the fastest way to generate that gives the LLM's own logits for one prompt alone."""
        prompts = [self._prompts.ids(text) for text in _PROBES]
        rows, alone = self._generate(prompts, way="alone", probe=True)
        tolerance = (1e-2 if self._backbone.dtype == torch.float32 else 0.3) * float(alone.std())
        ways: tuple[Way, ...] = ("shared beginning", "padded")
        for way in ways:
            if self._can(way):
                others, logits = self._generate(prompts, way=way, probe=True)
                off = (logits - alone).abs().amax(dim=-1)
                # The second step follows the first one's token.
                same = torch.tensor(
                    [[True, row[0] == other[0]] for row, other in zip(rows, others, strict=True)]
                )
                if bool((off[same] <= tolerance).all()):
                    return way
        logger.info("summaries: %s writes one at a time; its layers do not allow padding", self.name)
        return "alone"

    def _can(self, way: Way) -> bool:
        """Tell whether the LLM keeps nothing but keys and values; a shared beginning, of all positions."""
        if getattr(self._backbone.model, "_is_stateful", False):
            return False
        cache = self._beginning()
        layers = cache.layers if isinstance(cache, DynamicCache) else []
        names = {type(layer).__name__ for layer in layers}
        # A window counts positions, padding between beginning and text included.
        return bool(names) and names <= (
            {"DynamicLayer"} if way == "shared beginning" else {"DynamicLayer", "DynamicSlidingWindowLayer"}
        )

    @torch.inference_mode()
    def _beginning(self) -> Any:
        """Return keys and values of what all prompts begin with."""
        if self._head_cache is None:
            model = self._backbone.model
            reads = inspect.signature(model.forward).parameters
            few = {"logits_to_keep": 1} if "logits_to_keep" in reads else {}
            ids = torch.tensor([self._prompts.head], device=self._backbone.device)
            out = model(input_ids=ids, use_cache=True, **few)
            self._head_cache = out.get(_cache_name(model))
        return self._head_cache

    @torch.inference_mode()
    def _generate(
        self, prompts: Sequence[Sequence[int]], *, way: Way, probe: bool = False
    ) -> tuple[list[list[int]], Tensor]:
        """Return new tokens of each prompt; of a probe two, and their logits, float32 [prompts, 2, vocabulary]."""
        if way == "alone" and len(prompts) > 1:
            single = [self._generate([prompt], way=way, probe=probe) for prompt in prompts]
            return [rows[0] for rows, _ in single], torch.cat([logits for _, logits in single])
        head = self._prompts.head
        shared = way == "shared beginning" and all(list(ids[: len(head)]) == head for ids in prompts)
        before = len(head) if shared else 0
        length = max(map(len, prompts))
        ids = torch.full((len(prompts), length), self._pad)
        attend = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, :before] = torch.tensor(prompt[:before], dtype=torch.long)
            attend[row, :before] = 1
            ids[row, length - len(prompt) + before :] = torch.tensor(prompt[before:])
            attend[row, length - len(prompt) + before :] = 1
        device, model = self._backbone.device, self._backbone.model
        given: dict[str, Any] = {}
        with (
            _quick_generation(self._backbone, eager=length <= _EAGER_TOKENS),
            self._greedy(probe=probe) as config,
        ):
            if shared:
                given = {_cache_name(model): copy.deepcopy(self._beginning())}
                given[_cache_name(model)].batch_repeat_interleave(len(prompts))
            out = model.generate(
                input_ids=ids.to(device),
                attention_mask=attend.to(device),
                generation_config=config,
                **given,
            )
        logits = torch.stack(out.logits, dim=1).float().cpu() if probe else torch.empty(len(prompts), 0)
        return out.sequences[:, length:].tolist(), logits

    @contextlib.contextmanager
    def _greedy(self, *, probe: bool) -> Iterator[GenerationConfig]:
        """Put the model's own settings of generation aside: what they ask for is filled in wherever it is left open."""
        model = self._backbone.model
        own = model.generation_config
        plain = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=2 if probe else self._options.new_tokens,
            eos_token_id=None if probe else (self._ends or None),
            pad_token_id=self._pad,
            return_dict_in_generate=True,
            output_logits=probe,
        )
        model.generation_config = copy.deepcopy(plain)
        try:
            yield plain
        finally:
            model.generation_config = own


def _context(backbone: Backbone, options: SummaryOptions) -> int:
    """Return the tokens that prompt and answer may have together."""
    limit = getattr(backbone.model.config.get_text_config(), "max_position_embeddings", None)
    if options.context is None:
        return int(limit or ENDPOINT_CONTEXT)
    if limit is not None and options.context > limit:
        raise InputError(
            f"--summarizer-context {options.context}: {backbone.name} reads at most {limit} tokens"
        )
    return options.context


def _cache_name(model: Any) -> str:
    """Return what the installed transformers calls keys and values."""
    names = inspect.signature(model.prepare_inputs_for_generation).parameters
    return "cache" if "cache" in names else "past_key_values"


@contextlib.contextmanager
def _quick_generation(backbone: Backbone, *, eager: bool) -> Iterator[None]:
    """Avoid two slow paths of PyTorch on the CPU while a model generates; the model is put back as it was.

    ``generate`` hands the LM head a strided slice, for which a linear layer first copies its matrix once per row
    (2 GB for 32 rows and 49,152 words: half of the time of a prompt). And fused attention with one query is a
    third slower than attention written out.
    """
    if backbone.device.type != "cpu":
        yield
        return
    model = backbone.model
    attention = model.config._attn_implementation
    with contextlib.ExitStack() as undo:
        if isinstance(backbone.head, torch.nn.Module):
            hook = backbone.head.register_forward_pre_hook(
                lambda _, inputs: (inputs[0].contiguous(), *inputs[1:])
            )
            undo.callback(hook.remove)
        if eager and attention == "sdpa":
            undo.callback(model.set_attn_implementation, attention)
            model.set_attn_implementation("eager")
        yield
