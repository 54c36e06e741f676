"""Comparisons that claims on sweeps ask for: cells on changed items, or trained otherwise, beside unchanged ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.frames import (
    backbones,
    catalogue_growth,
    image_quality,
    overlap,
    robustness,
    training_strategy,
)
from bench.frames.groups import equal_groups
from bench.frames.selection import ACCURACY, LIMITS, OURS, latest
from bench.store.cell import Record
from reports.claims.grounds import Grounds
from reports.evidence.evidence import (
    MORE,
    WITHIN_25_PERCENT,
    Evidence,
    Rule,
    compare_accuracy,
    paired_evidence,
)
from reports.exhibits.strategy_exhibits import STRATEGY_LOOKS
from reports.paper.paper_tables import short_name
from reports.sections.results import FEATURES, llm_label

PAPER_NOISES = {"html": "markup", "boilerplate": "boilerplate"}
"""The noise that the paper found in descriptions (Section 4.3): extraneous content, such as HTML tags."""

_USER_GROUPS = 5

Pairs = tuple[list[Record], list[Record]]


def changed_pairs(
    grounds: Grounds,
    *,
    matches: Callable[[Mapping[str, Any]], bool],
    method: str = OURS,
    features: Sequence[str] = FEATURES,
) -> Pairs:
    """Return the cells of a variant, the newest of each seed, and those that differ from them in nothing else.

    Args:
        grounds: What is stored.
        matches: Takes a cell's variant; tells whether it is the one.
        method: Name of the method.
        features: Feature types that score items.
    """
    newest = {
        record.seed: record
        for record in sorted(grounds.section.sweeps, key=lambda record: record.created)
        if _reads_all(record, method, features) and matches(record.config["dataset"].get("variant") or {})
    }
    plain = [
        record
        for record in latest(grounds.records, ACCURACY)
        if record.config["dataset"]["fingerprint"] == grounds.section.fingerprint
        and not record.config["dataset"].get("variant")
        and _reads_all(record, method, features)
    ]
    twins = {seed: twin(record, plain, ignored=("dataset",)) for seed, record in newest.items()}
    pairs = [(newest[seed], other) for seed, other in twins.items() if other is not None]
    return [changed for changed, _ in pairs], [other for _, other in pairs]


def twin(record: Record, among: Sequence[Record], *, ignored: Collection[str]) -> Record | None:
    """Return the newest cell with the same seed that differs from another in nothing but some options, if there is one.

    Args:
        record: An accuracy cell.
        among: Cells to choose from.
        ignored: Options that may differ. A training strategy and its own options always may.
    """
    wanted = _options(record, ignored)
    found = [other for other in among if other.seed == record.seed and _options(other, ignored) == wanted]
    return max(found, key=lambda other: other.created, default=None)


def strategies(grounds: Grounds, *, strategy: str, rule: Rule) -> list[Evidence | None]:
    """Compare a training strategy with the frozen LLM."""

    def matches(variant: Mapping[str, Any]) -> bool:
        return variant.get("kind") == training_strategy.KIND and variant.get("strategy") == strategy

    changed, frozen = changed_pairs(grounds, matches=matches)
    names = (STRATEGY_LOOKS[strategy].label, STRATEGY_LOOKS[training_strategy.FROZEN].label)
    return [compare_accuracy(grounds.ranks, changed, frozen, names, rule)]


def noise_cost(grounds: Grounds, *, against: bool) -> list[Evidence | None]:
    """Compare the full description as it is with that under the noise that the paper names, at its highest level.

    Args:
        grounds: What is stored.
        against: Ask whether the full description loses more than I-LLMRec, else whether it loses at all.
    """
    return [_noise_cost(grounds, kind, against) for kind in PAPER_NOISES]


def image_quality_cost(
    grounds: Grounds, *, features: Sequence[str], rule: Rule, worse_first: bool
) -> list[Evidence | None]:
    """Compare low quality with the pictures as they are: the source's own, or else the smallest thumbnails.

    Args:
        grounds: What is stored.
        features: Feature types that score items.
        rule: When the claim holds.
        worse_first: Whether the difference is that of low quality less high.
    """
    variants = [
        variant
        for record in grounds.section.sweeps
        if (variant := record.config["dataset"].get("variant") or {}).get("kind") == image_quality.KIND
        and record.config.get("features") == list(features)
    ]
    own = [variant for variant in variants if variant["degradation"] == image_quality.LOW_RESOLUTION]
    small = [variant for variant in variants if variant["degradation"] == "resolution"]
    if own:
        chosen, name = own[0], "low resolution"
    elif small:
        chosen = min(small, key=lambda variant: variant["amount"])
        name = f"{chosen['amount']:g} pixels"
    else:
        return [None]

    def matches(variant: Mapping[str, Any]) -> bool:
        same = ("kind", "degradation", "amount")
        return all(variant.get(part) == chosen[part] for part in same)

    worse, original = changed_pairs(grounds, matches=matches, features=features)
    names = (name, "as they are")
    if worse_first:
        return [compare_accuracy(grounds.ranks, worse, original, names, rule)]
    return [compare_accuracy(grounds.ranks, original, worse, names[::-1], rule)]


def larger_llm(grounds: Grounds) -> list[Evidence | None]:
    """Compare the largest LLM of the grid with the smallest, for each vision encoder."""
    sizes = {
        llm_label(record.config): record.results["llm_parameters"]
        for record in latest(grounds.records, backbones.EXPERIMENT)
    }
    cells = _grid(grounds)
    found: list[Evidence | None] = []
    for vision in dict.fromkeys(vision for _, vision in cells):
        llms = sorted(
            {llm for llm, other in cells if other == vision and llm in sizes}, key=sizes.__getitem__
        )
        if len(llms) > 1 and sizes[llms[-1]] > sizes[llms[0]]:
            found.append(
                _in_grid(grounds, cells[llms[-1], vision], cells[llms[0], vision], (llms[-1], llms[0]))
            )
    return found or [None]


def siglip_over_clip(grounds: Grounds) -> list[Evidence | None]:
    """Compare SigLIP with CLIP as vision encoders, for each LLM of the grid."""
    cells = _grid(grounds)
    found: list[Evidence | None] = []
    for llm in dict.fromkeys(llm for llm, _ in cells):
        names = {short_name(vision).lower(): vision for other, vision in cells if other == llm}
        siglip = [vision for name, vision in names.items() if "siglip" in name]
        clip = [vision for name, vision in names.items() if "clip" in name]
        if siglip and clip:
            pair = (short_name(siglip[0]), short_name(clip[0]))
            found.append(_in_grid(grounds, cells[llm, siglip[0]], cells[llm, clip[0]], pair))
    return found or [None]


def older_model(grounds: Grounds) -> list[Evidence | None]:
    """Compare the model of the size before with one trained for the catalogue, at each size and per feature set."""
    newest: dict[tuple[Any, ...], dict[int, Record]] = {}
    for record in sorted(latest(grounds.records, catalogue_growth.EXPERIMENT), key=lambda r: r.created):
        config = record.config
        if (
            config["dataset"]["fingerprint"] == grounds.section.fingerprint
            and llm_label(config) == grounds.section.llm
            and record.method == OURS
        ):
            place = (tuple(config["features"]), config["served"]["items"], config["trained"]["items"])
            newest.setdefault(place, {})[record.seed] = record
    found = []
    for features, served, trained in newest:
        smaller = [
            size
            for others, serves, size in newest
            if (others, serves) == (features, served) and size < served
        ]
        if trained != served or not smaller:
            continue
        older = newest[features, served, max(smaller)]
        names = (f"{'+'.join(features)}: {max(smaller)} items serve {served}", "trained for them")
        sides = (list(older.values()), list(newest[features, served, served].values()))
        found.append(compare_accuracy(grounds.ranks, *sides, names, WITHIN_25_PERCENT))
    return found or [None]


def image_over_cf_by_length(grounds: Grounds) -> list[Evidence | None]:
    """Compare image with CF features, row (b) with (c), in each fifth of the users by length of their history."""
    image, cf = grounds.row("b"), grounds.row("c")
    with_ranks = [record for record in image if (record.folder / "ranks.parquet").is_file()]
    if not with_ranks or not cf:
        return [None]
    ranks = grounds.ranks.store.read_frame(with_ranks[0], "ranks")
    groups = equal_groups(ranks["history_length"], groups=_USER_GROUPS)
    return [
        compare_accuracy(
            grounds.ranks,
            image,
            cf,
            (f"group {group}: image (b)", "CF (c)"),
            MORE,
            users=ranks.loc[groups == group, "user_id"],
        )
        for group in range(1, _USER_GROUPS + 1)
    ]


def own_description(grounds: Grounds) -> list[Evidence | None]:
    """Compare the cosine of items' pictures with their own description and that with another item's, per encoder."""
    newest = {
        record.method: record
        for record in sorted(
            latest(grounds.records, overlap.EXPERIMENT), key=lambda record: (-record.seed, record.created)
        )
        if record.config["dataset"]["fingerprint"] == grounds.section.fingerprint
    }
    found: list[Evidence | None] = []
    for encoder, record in sorted(newest.items()):
        pairs = grounds.ranks.store.read_frame(record, "similarities")
        both = pairs.rename(columns={"matched": "first", "shuffled": "second"})[["first", "second"]]
        evidence = paired_evidence(both, ("own", "another's"), MORE)
        if evidence is not None:
            means = both.mean()
            shown = f"{short_name(encoder)}: {means['first']:.3f} against {means['second']:.3f}, {len(both)} items"
            evidence = replace(evidence, shown=shown, unit="cosine", users=0)
        found.append(evidence)
    return found or [None]


def _noise_cost(grounds: Grounds, kind: str, against: bool) -> Evidence | None:
    stored = [
        (variant["reach"] == "everything", float(variant["level"]), variant["reach"])
        for record in grounds.section.sweeps
        if (variant := record.config["dataset"].get("variant") or {}).get("kind") == robustness.KIND
        and variant["noise"] == kind
        and record.method == robustness.DESCRIBED
    ]
    if not stored:
        return None
    _, level, reach = max(stored)

    def matches(variant: Mapping[str, Any]) -> bool:
        return variant.get("kind") == robustness.KIND and (
            variant["noise"],
            variant["reach"],
            float(variant["level"]),
        ) == (kind, reach, level)

    noisy, clean = changed_pairs(grounds, matches=matches, method=robustness.DESCRIBED)
    names = ("clean", f"{100 * level:.0f} % {PAPER_NOISES[kind]}")
    if not against:
        return compare_accuracy(grounds.ranks, clean, noisy, names, MORE)
    described = grounds.ranks.paired(clean, noisy)
    if described is None:
        return None
    losses = pd.DataFrame({"first": described["first"] - described["second"]})
    if reach == "everything":
        ours = grounds.ranks.paired(*changed_pairs(grounds, matches=matches)[::-1])
        if ours is None:
            return None
        losses["second"] = ours["first"] - ours["second"]
        losses = losses.dropna()
    else:
        losses["second"] = 0.0  # such noise is in prompts that show descriptions, and nowhere else
    evidence = paired_evidence(losses, ("full description", "I-LLMRec"), MORE)
    if evidence is None:
        return None
    means = losses.mean()
    shown = f"{names[1]} costs the full description {means['first']:.4f}, I-LLMRec {means['second']:.4f}"
    return replace(evidence, shown=shown)


def _grid(grounds: Grounds) -> dict[tuple[str, str], list[Record]]:
    """Return the cells of I-LLMRec on the section's data by LLM and vision encoder."""
    cells: dict[tuple[str, str], list[Record]] = {}
    for record in latest(grounds.records, ACCURACY):
        dataset = record.config["dataset"]
        variant = dataset.get("variant") or {"kind": backbones.KIND, "of": dataset["fingerprint"]}
        if (
            variant["kind"] == backbones.KIND
            and variant["of"] == grounds.section.fingerprint
            and _reads_all(record, OURS, FEATURES)
            and "encoders" in record.config
        ):
            place = (llm_label(record.config), record.config["encoders"]["image"])
            cells.setdefault(place, []).append(record)
    return cells


def _in_grid(
    grounds: Grounds, first: Sequence[Record], second: Sequence[Record], names: tuple[str, str]
) -> Evidence | None:
    """Compare two places of the grid on cells that are trained alike."""
    newest = {record.seed: record for record in sorted(first, key=lambda record: record.created)}
    pairs = [
        (record, other)
        for record in newest.values()
        if (other := twin(record, second, ignored=("dataset", "llm", "encoders"))) is not None
    ]
    sides = ([one for one, _ in pairs], [other for _, other in pairs])
    return compare_accuracy(grounds.ranks, *sides, names, MORE)


def _reads_all(record: Record, method: str, features: Sequence[str]) -> bool:
    """Tell whether a cell is of a method with RISA and some feature types, evaluated without a limit."""
    return (
        record.method == method
        and bool(record.config.get("risa"))
        and record.config.get("features") == list(features)
        and not set(LIMITS) & (record.config.get("evaluation") or {}).keys()
    )


def _options(record: Record, ignored: Collection[str]) -> str:
    """Return a cell's options as text, without seeds, those that are ignored and its training strategy."""
    options = {name: value for name, value in record.config.items() if name not in (*ignored, "seed")}
    training = dict(options.get("training") or {})
    options["training"] = {
        name: value for name, value in training.items() if name not in training_strategy.STRATEGY_OPTIONS
    }
    return json.dumps(options, sort_keys=True)
