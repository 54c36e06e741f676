"""Export a trained model to a folder or to Hugging Face's hub: ``python -m illmrec.export``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import httpx2
from huggingface_hub import HfApi

from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.exported import check_target, export
from illmrec.recommender import Recommender
from illmrec.stored_models import OUT, model_folder
from illmrec.temporary import scratch_folder

_HUB = "hub:"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def main(*, model: str, to: str, out: Path = OUT, public: bool = False) -> int:
    """Write a trained model as safetensors, configuration, catalogue and model card, for others to load.

    The folder needs no data set: ILLMRec.from_pretrained loads it, and recommends what the model does. It holds the
    items' titles, texts (as token ids) and features, whose licences are yours to mind; a repository is private unless
    you say otherwise.

    Args:
        model: Key of a trained model in the store, or its folder.
        to: A folder, which is made, or hub:OWNER/NAME; for that, log in with hf auth login.
        out: Folder of results, in whose store the key is looked up.
        public: Make a new repository of the hub public.
    """
    repository = None
    if to.startswith(_HUB):
        repository = to.removeprefix(_HUB)
        if not _REPOSITORY.fullmatch(repository):
            raise InputError(f"--to {to}: write the repository as hub:OWNER/NAME")
    elif public:
        raise InputError("--public: is for a repository of the hub, --to hub:OWNER/NAME")
    else:
        check_target(Path(to).expanduser())
    folder = model_folder(model, out=out)
    recommender = Recommender.load(folder)
    if repository is None:
        export(folder, Path(to).expanduser(), recommender=recommender)
        print(f"wrote {to}: README.md is its card")
        return 0
    with scratch_folder() as temporary:
        local = temporary / "model"
        export(folder, local, recommender=recommender)
        print(f"uploaded to {upload(local, repository, private=not public)}")
    return 0


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Upload an exported model to a repository of the hub, made where there is none; return its address.

    Raises:
        InputError: If the hub cannot be reached or refuses.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export from illmrec")
    except (httpx2.HTTPError, OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"--to hub:{repository}: {reason}; hf auth login, or export to a folder") from error
    return str(address)


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m illmrec.export", interrupted=""))
