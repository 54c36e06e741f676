"""What the optimiser of a training strategy updates: parameters in groups, float32 masters of low-precision ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from illmrec.errors import UnsupportedError
from illmrec.model.illmrec import ILLMRec
from illmrec.training.options import TrainingOptions


class Masters:
    """Float32 copies of parameters of lower precision, which the optimiser updates in their place.

    A step of the LLM's learning rate is often below half a unit in the last place of a bfloat16 weight and would be
    rounded away. Gradients of several passes add up in float32 as well: each is moved to the copy as soon as it is
    there, which frees its memory. Each weight takes 4 bytes for its copy, 4 for the gradient and 8 for Adam.

    Args:
        parameters: Parameters of any data type, by name.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = {
            name: parameter for name, parameter in parameters.items() if parameter.dtype != torch.float32
        }
        self.weights = {
            name: nn.Parameter(parameter.detach().float()) for name, parameter in self._parameters.items()
        }
        for name, parameter in self._parameters.items():
            parameter.register_post_accumulate_grad_hook(self._collector(self.weights[name]))

    @staticmethod
    def _collector(master: nn.Parameter) -> Any:
        def collect(parameter: Tensor) -> None:
            if parameter.grad is not None:
                gradient = parameter.grad.float()
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
                parameter.grad = None

        return collect

    @torch.no_grad()
    def publish(self) -> None:
        """Round the copies into the parameters."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.weights[name])

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Set the copies, float32 tensors by name."""
        for name, master in self.weights.items():
            master.copy_(weights[name])


def without_risa(model: ILLMRec) -> str | None:
    """Return why no parameter of a model learns from RISA, or ``None`` where one does.

    A question reads words and slots, never ``[REC]`` or a projector. So its loss reaches adaptors through the slots,
    and the LLM where that is trained; without either, its gradient is zero in every parameter.
    """
    if next(model.llm.parameters(), None) is not None:
        return None
    if not model.adaptors:
        return "the LLM is frozen and no adaptor feeds it, so that nothing learns from it"
    if not (model.prompts.items.ids < 0).any():
        return "the LLM is frozen and no item of the catalogue has a slot, so that nothing learns from it"
    return None


def parameter_groups(model: ILLMRec, options: TrainingOptions, masters: Masters) -> list[dict[str, Any]]:
    """Return Adam's parameter groups: what stands around the LLM and, where it is trained, what is trained in it.

    Each group has the learning rate ``peak``, which the schedule scales.

    Raises:
        UnsupportedError: If the strategy has nothing to train in one of its stages.
    """
    if options.strategy == "two-stage" and not model.adaptors:
        raise UnsupportedError(
            "strategy two-stage: its first stage trains adaptors, and this method has none"
        )
    llm = dict(model.llm.named_parameters())
    own = {id(parameter) for parameter in llm.values()}
    around = [parameter for parameter in model.parameters() if id(parameter) not in own]
    inside = [masters.weights.get(name, parameter) for name, parameter in llm.items()]
    groups: list[dict[str, Any]] = [
        {"params": around, "lr": options.learning_rate, "peak": options.learning_rate}
    ]
    if inside:
        rate = options.learning_rate_of_llm()
        groups.append({"params": inside, "lr": rate, "peak": rate})
    return groups


def learning_rate_factor(options: TrainingOptions, *, step: int, steps: int) -> float:
    """Return what share of the learning rate a step has.

    Args:
        options: For the schedule.
        step: Number of the step, from 0.
        steps: Steps in all.
    """
    if options.schedule == "constant":
        return 1.0
    if options.schedule == "linear":
        return 1 - step / steps
    warm_up = max(1, steps // 50)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def clip(optimiser: torch.optim.Optimizer, options: TrainingOptions) -> None:
    """Cut the gradient of all that is trained, taken as one vector, to the length that the options allow."""
    if options.clip is not None:
        trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(trained, options.clip)
