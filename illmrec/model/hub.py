"""A model as a folder that stands alone: parameters, prompts and features of its catalogue, without the data set.

Beside them it needs the LLM alone, which is named in ``config.json`` and not copied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx2
import numpy as np
import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from illmrec import checksums
from illmrec.errors import InputError
from illmrec.features.commits import pinned
from illmrec.features.sources import refuse_missing_folder, with_folder
from illmrec.files import hash_json, is_folder, parsed_json
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.slot_content import changed_slots
from illmrec.prompts.tokens import TokenisedItems

if TYPE_CHECKING:
    from illmrec.assembly import ModelConfig
    from illmrec.model.illmrec import ILLMRec

FORMAT = 1
PARAMETERS, CATALOGUE, CONFIG = "model.safetensors", "catalogue.safetensors", "config.json"
SEALED = (PARAMETERS, CATALOGUE, CONFIG)
"""The files that have checksums."""
AGAIN = "export or fetch the model again; if you changed the file, delete checksums.json beside it"
_FEATURES, _EMBEDDED = "features.", "embedded."
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

Model = TypeVar("Model", bound="HubModel")


class HubModel(ModelHubMixin):
    """Gives a model ``save_pretrained`` and ``from_pretrained``; a folder and a repository of the hub hold the same."""

    config: ModelConfig | None = None
    """What the model is, where it was put together from that; only such a model can be saved."""

    # The mixin would copy the arguments of the constructor into it, the LLM among them.
    _hub_mixin_config: dict[str, Any] = {}  # noqa: RUF012

    def push_to_hub(self, repo_id: str, *, private: bool | None = True, **arguments: Any) -> str:
        """Upload the model to a repository of the hub, a private one: it holds texts of the data.

        ``python -m illmrec.export`` writes the items' ids and a card as well.

        Args:
            repo_id: ``OWNER/NAME``.
            private: Whether a new repository is private; ``None`` is what its owner has as default.
            arguments: Those of ``huggingface_hub``.
        """
        return super().push_to_hub(repo_id, private=private, **arguments)

    def show(self, tables: Mapping[str, torch.Tensor]) -> None:
        """Take tables as the model sees them, float32 [n_items, width] each, neither centred nor scaled here."""
        model = cast("ILLMRec", self)
        for name in model.tables:
            model.register_buffer(f"features_{name}", tables[name].to(model.rec.device), persistent=False)
        if model.slot_content != "features":
            for name in model.adaptors:
                shown = changed_slots(model.features(name), model.slot_content, seed=model.slot_seed)
                model.register_buffer(f"slot_{name}", shown, persistent=False)

    def _save_pretrained(self, save_directory: Path) -> None:
        model = cast("ILLMRec", self)
        if self.config is None:
            raise InputError("this model was not put together from a configuration: build it by build_model")
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(state, save_directory / PARAMETERS)
        items = model.prompts.items
        arrays = {"token_ids": items.ids, "token_offsets": items.offsets}
        arrays |= {f"{_FEATURES}{name}": model.features(name).cpu().numpy() for name in model.tables}
        arrays |= {f"{_EMBEDDED}{name}": table for name, table in model.embedded.items()}
        save_arrays(
            {name: np.ascontiguousarray(values) for name, values in arrays.items()},
            save_directory / CATALOGUE,
        )
        config = replace(
            self.config, history_length=model.history_length, context=model.prompts.context
        )  # as it was limited
        backbone = model.engine.backbone
        described = {
            "model_type": "illmrec",
            "format": FORMAT,
            "model": asdict(config),
            "llm": {**backbone.describe(), "name": pinned(public_name(backbone.name), backbone.commit)},
            "content": trained_with(model),
            "catalogue": {"items": model.n_items, "slots": list(items.slots), "vectors": model.vectors},
        }
        (save_directory / CONFIG).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        checksums.seal(save_directory, *SEALED)

    @classmethod
    def from_pretrained(
        cls: type[Model], pretrained_model_name_or_path: str | Path, **arguments: Any
    ) -> Model:
        """Load an exported model.

        Args:
            pretrained_model_name_or_path: Its folder, or its repository on the hub, ``OWNER/NAME``.
            arguments: ``llm``, a name or folder, where the LLM is not where ``config.json`` says; ``backbone``, the LLM
                if it is loaded already; ``device``; and those of ``huggingface_hub`` (``revision``, ``token``).

        Raises:
            InputError: If a file is missing or damaged, the hub does not give it, or the LLM is another.
        """
        source = str(pretrained_model_name_or_path)
        if is_folder(source):
            config = exported_file(source, CONFIG)
            checksums.check(Path(source), CONFIG, remedy=AGAIN)
            _read_config(config)  # the mixin's error on a damaged one names no file
        else:
            refuse_missing_folder(source, subject=source)
            if not _REPOSITORY.fullmatch(source):
                raise InputError(
                    f"{source}: no such folder, and a repository of the hub is written OWNER/NAME"
                )
        return super().from_pretrained(source, **arguments)

    @classmethod
    def _from_pretrained(
        cls: type[Model],
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        backbone: Backbone | None = None,
        llm: str | None = None,
        device: str = "cpu",
        **unknown: Any,
    ) -> Model:
        if unknown:
            raise InputError(f"from_pretrained: unknown argument '{next(iter(unknown))}'")
        where: Any = {
            "revision": revision,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
        }
        parameters, catalogue, config = (
            exported_file(model_id, name, **where) for name in (PARAMETERS, CATALOGUE, CONFIG)
        )
        if is_folder(model_id):
            checksums.check(Path(model_id), *SEALED, remedy=AGAIN)
        saved = _read_config(config)
        if backbone is None:
            backbone = load_backbone(**_llm(saved["llm"], llm, config), device=device)
        try:
            arrays, state = load_arrays(catalogue), load_file(parameters)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{model_id}: a file of the model is damaged ({error}); export or fetch it again"
            ) from error
        return cast(Model, _put_together(saved, arrays, state, backbone=backbone, subject=model_id))


def _put_together(
    saved: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    state: dict[str, torch.Tensor],
    *,
    backbone: Backbone,
    subject: str,
) -> ILLMRec:
    """Return a model as it was saved.

    Raises:
        InputError: If the LLM is another, or the files do not belong together.
    """
    from illmrec.assembly import assemble, check_shipped, stored_config

    tables, embedded = (
        {name.removeprefix(kind): table for name, table in arrays.items() if name.startswith(kind)}
        for kind in (_FEATURES, _EMBEDDED)
    )
    if backbone.fingerprint != saved["content"].get("llm"):
        raise InputError(
            f"{subject}: it was trained with another LLM than {backbone.name}; "
            f"name the right one: {saved['llm'].get('name')}"
        )
    try:
        config = stored_config(saved["model"])
        check_shipped(config.representation)
        catalogue = saved["catalogue"]
        for name, count in catalogue["vectors"].items():
            if type(count) is not int or count < 1:
                raise ValueError(f"{count!r} vectors of {name} an item")
        model = assemble(
            config,
            items=TokenisedItems(
                ids=arrays["token_ids"], offsets=arrays["token_offsets"], slots=tuple(catalogue["slots"])
            ),
            backbone=backbone,
            features={**tables, **embedded},
            vectors=catalogue["vectors"],
            embedded=tuple(embedded),
        )
        model.load_state_dict(state)
        model.show({name: torch.from_numpy(table) for name, table in tables.items()})
    except InputError:
        raise
    except (
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
        IndexError,
        AssertionError,
    ) as error:
        raise InputError(f"{subject}: its files do not belong together ({_first_line(error)})") from error
    if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
        raise InputError(
            f"{subject}: parameters are not finite; the file is damaged: export or fetch it again"
        )
    if trained_with(model) != saved["content"]:
        raise InputError(f"{subject}: prompts are another version's; export it again with this one")
    return model.eval()


def _llm(known: Mapping[str, Any], name: str | None, path: Path) -> dict[str, Any]:
    """Return the arguments of ``load_backbone`` that a configuration names.

    Raises:
        InputError: If one is missing or of the wrong type.
    """
    said = {**known, **({} if name is None else {"name": name})}
    kinds = {"name": (str,), "layers": (int, type(None)), "dtype": (str,), "compiled": (bool,)}
    found = {"compiled": False, **{part: said[part] for part in kinds if part in said}}
    wrong = [part for part, kind in kinds.items() if type(found.get(part, ...)) not in kind]
    if wrong:
        raise InputError(f"{path}: llm has no usable {wrong[0]}; export the model again")
    return found


def _read_config(path: Path) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = parsed_json(path.read_text(encoding="utf-8"))
        known = saved["format"] == FORMAT and saved["model_type"] == "illmrec"
        if not all(isinstance(saved[part], dict) for part in ("model", "llm", "content", "catalogue")):
            raise TypeError("model, llm, content and catalogue are objects")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: does not describe an exported model ({_first_line(error) or 'damaged'})"
        ) from error
    if not known:
        raise InputError(
            f"{path}: is of format {saved['format']}, this version reads {FORMAT}; export the model again"
        )
    return saved


def exported_file(source: str, name: str, **where: Any) -> Path:
    """Return a file of an exported model.

    Args:
        source: A folder, or a repository of the hub, ``OWNER/NAME``.
        name: The file's.
        where: Further arguments of ``huggingface_hub.hf_hub_download``.

    Raises:
        InputError: If there is no such file, or the hub cannot be reached.
    """
    if is_folder(source):
        path = Path(source) / name
        if not path.is_file():
            raise InputError(
                f"{source}: holds no exported model ({name} is missing); python -m illmrec.export"
            )
        return path
    try:
        return Path(hf_hub_download(source, name, **where))
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise InputError(
            f"{source}: no such folder, and the hub does not give {name} ({_first_line(error)})"
        ) from error


def trained_with(model: ILLMRec) -> dict[str, str]:
    """Return what a model's parameters were trained with and fit nothing else than: the LLM and the prompts."""
    prompts = model.prompts
    shown = (prompts.task, prompts.instruction, prompts.items.ids, prompts.items.offsets)
    return {
        "llm": model.engine.backbone.fingerprint,
        "prompts": hash_json([values.tolist() for values in shown]),
    }


def public_name(name: str) -> str:
    """Return the name of data or of a model without the folder it lies in on this machine."""
    return with_folder(name, lambda folder: folder.name)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
