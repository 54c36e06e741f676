"""The card of an exported model: what it is, its data, its numbers, its limits and whose licences hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from illmrec.escaping import for_markdown, shortened

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHOWN = ("hit@5", "ndcg@5", "hit@10", "ndcg@10", "mrr")

_USE = """```python
from illmrec.model.illmrec import ILLMRec

model = ILLMRec.from_pretrained("FOLDER or OWNER/NAME")
scores = model.score([history])  # item row numbers, the most recent last; float32 [1, items]
```

`items.parquet` names the item of each row. From the command line, with item ids:
`python -m illmrec.recommend --model FOLDER --history ID,ID`, and as an HTTP endpoint
`python -m illmrec.serve --model FOLDER`."""

_LIMITS = """- It recommends items of this catalogue alone; users and items that are not in it are unknown to it.
- Its numbers hold for these data, this split and these candidates. Nothing is said here on other data, on what people
  do when they are shown its recommendations, or on groups of users.
- The LLM is not part of it, and another LLM, or another version of the same one, is refused.
- It was made for research and was not audited for bias; popular items may be favoured."""

_LICENCE = """The code is under the MIT licence. The parameters were learnt from the data above through the LLM and the
encoders above, and the files hold titles, texts (as token ids) and features of the items: licences and terms of those
data and models hold for this folder as well. Read them before you share it; nothing here gives you that right."""


def model_card(about: Mapping[str, Any]) -> str:
    """Return the card in Markdown, with the metadata that the hub reads at its head.

    Args:
        about: What :func:`illmrec.exported.told` returned; names in it are data, and are shown as such.
    """
    llm = about["llm"]
    head = [
        "---",
        "library_name: illmrec",
        "license: other",
        "license_name: of-data-and-models",
        "pipeline_tag: other",
        "tags: [recommender-system, sequential-recommendation, illmrec, model_hub_mixin]",
    ]
    if _HUB_ID.fullmatch(llm["name"]):
        head.append(f"base_model: {llm['name']}")
    sections = [
        "\n".join([*head, "---"]),
        f"# Recommender for {_plain(about['dataset']['dataset'])}",
        _what(about),
        "## Use\n\n" + _USE,
        "## Data\n\n" + _table(about["dataset"]) + f"\n\nFingerprint of the data: `{about['fingerprint']}`.",
        "## Numbers\n\n" + _numbers(about),
        "## Training\n\n" + _training(about),
        "## Limits\n\n" + _LIMITS,
        "## Licence\n\n" + _LICENCE,
    ]
    return "\n\n".join(sections) + "\n"


def _what(about: Mapping[str, Any]) -> str:
    llm, encoders = about["llm"], about["encoders"]
    read = ", ".join(f"{_plain(kind)} {_plain(name)}" for kind, name in sorted(encoders.items()))
    return (
        f"Given the items that a user had, it scores every item of its catalogue. It reads each item as "
        f"{_plain(about['representation'])} shows it, with {llm['layers']} blocks of {_plain(llm['name'])}, "
        f"and scores items by their {' + '.join(map(_plain, about['heads']))} features (encoders: {read}). An "
        "implementation of [I-LLMRec](https://arxiv.org/abs/2503.06238) that is independent of its authors."
    )


def _numbers(about: Mapping[str, Any]) -> str:
    rows: list[Sequence[Any]] = []
    training = about["training"]
    if "valid_ndcg@10" in training:
        rows.append(["validation", "sampled", "", *_of({"ndcg@10": training["valid_ndcg@10"]})])
    for found in about["results"]:
        results = found["results"]
        for candidates in ("sampled", "full"):
            part = f"test, seed {found['seed']}{_differs(found.get('evaluation', {}))}"
            rows.append([part, candidates, results.get("users", ""), *_of(results.get(candidates, {}))])
    if not rows:
        return "None was stored with this model: run the experiment that trained it again, which computes nothing anew."
    text = _grid(["part", "candidates", "users", *_SHOWN], rows)
    if not about["results"]:
        text += (
            "\n\nTest results were not stored with this model: the experiment that trained it, run again, computes "
            "nothing anew and adds them."
        )
    return text + (
        "\n\n`sampled` ranks the target among items that the user never had, `full` among the whole catalogue "
        "without the history; ties count against the target."
    )


def _differs(evaluation: Mapping[str, Any]) -> str:
    """Return the evaluation options by which a model read less than it was trained on."""
    told = {name: evaluation.get(name) for name in ("history_length", "context")}
    return "".join(f", {name.replace('_', ' ')} {value}" for name, value in told.items() if value is not None)


def _of(metrics: Mapping[str, Any]) -> list[str]:
    return [f"{metrics[name]:.4f}" if name in metrics else "" for name in _SHOWN]


def _training(about: Mapping[str, Any]) -> str:
    options = {**about["options"], **{f"outcome: {name}": value for name, value in about["training"].items()}}
    simple = {name: value for name, value in options.items() if not isinstance(value, dict | list)}
    return _table(simple) if simple else "Nothing was stored on it."


def _table(values: Mapping[str, Any]) -> str:
    return _grid(["what", "value"], [[name, value] for name, value in values.items()])


def _grid(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(value: Any) -> str:
    """Return a value as text that Markdown and HTML show as it is, in one line."""
    return for_markdown(
        shortened(f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split()))
    )
