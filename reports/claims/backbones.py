"""Claims on LLMs and vision encoders."""

from __future__ import annotations

from bench.frames.backbones import EXPERIMENT, KIND
from bench.frames.selection import ACCURACY, OURS, latest
from bench.store.cell import Record
from reports.claims.claim import Claim, Found
from reports.claims.comparisons import reads_all, twins, variant_of
from reports.claims.evidence import Evidence, Judge
from reports.claims.rules import MORE
from reports.paper.paper_tables import short_name
from reports.paper.published import gains
from reports.sections.section import FEATURES, Section, llm_label, origin

_LLMS = ("LLaMA-2.7B", "Vicuna 1.5-7B")
_ENCODERS = ("SigLIP", "CLIP")

Place = tuple[str, str]
"""LLM and vision encoder."""


def _larger_llm(section: Section, judge: Judge) -> Found:
    """Compare the largest LLM of the grid with the smallest, for each vision encoder."""
    sizes = {
        llm_label(record.config): record.results["llm_parameters"]
        for record in latest(section.stored, EXPERIMENT)
    }
    cells = _grid(section)
    found: list[Evidence | None] = []
    for vision in dict.fromkeys(vision for _, vision in cells):
        llms = {llm for llm, other in cells if other == vision and llm in sizes}
        ordered = sorted(llms, key=sizes.__getitem__)
        if len(ordered) > 1 and sizes[ordered[-1]] > sizes[ordered[0]]:
            names = (ordered[-1], ordered[0])
            found.append(_compare(judge, cells, (names[0], vision), (names[1], vision), names))
    return found or [None]


def _siglip_over_clip(section: Section, judge: Judge) -> Found:
    """Compare SigLIP with CLIP as vision encoders, for each LLM of the grid."""
    cells = _grid(section)
    found: list[Evidence | None] = []
    for llm in dict.fromkeys(llm for llm, _ in cells):
        encoders = [vision for other, vision in cells if other == llm]
        siglip, clip = (
            [vision for vision in encoders if name in short_name(vision).lower()]
            for name in ("siglip", "clip")
        )
        if siglip and clip:
            names = (short_name(siglip[0]), short_name(clip[0]))
            found.append(_compare(judge, cells, (llm, siglip[0]), (llm, clip[0]), names))
    return found or [None]


def _grid(section: Section) -> dict[Place, list[Record]]:
    """Return the cells of I-LLMRec on the section's data by LLM and vision encoder."""
    cells: dict[Place, list[Record]] = {}
    for record in latest(section.stored, ACCURACY):
        if (
            variant_of(record).get("kind", KIND) == KIND
            and origin(record.config) == section.fingerprint
            and reads_all(record, OURS, FEATURES)
            and "encoders" in record.config
        ):
            place = (llm_label(record.config), record.config["encoders"]["image"])
            cells.setdefault(place, []).append(record)
    return cells


def _compare(
    judge: Judge,
    cells: dict[Place, list[Record]],
    first: Place,
    second: Place,
    names: tuple[str, str],
) -> Evidence | None:
    """Compare two places of the grid on cells that are trained alike."""
    sides = twins(cells[first], cells[second], ignored=("dataset", "llm", "encoders"))
    return judge.compare(*sides, names)


CLAIMS = (
    Claim(
        id="larger-llm",
        text="A larger LLM is more accurate with the same vision encoder",
        source="Appendix E.12, Table 11",
        published="; ".join(
            f"{gains('table11', *_LLMS[::-1], {'vision': vision})} with {vision}" for vision in _ENCODERS
        ),
        rule=MORE,
        test=_larger_llm,
        content=False,
    ),
    Claim(
        id="siglip-over-clip",
        text="SigLIP is more accurate than CLIP as vision encoder with the same LLM",
        source="Appendix E.12, Table 11",
        published="; ".join(f"{gains('table11', *_ENCODERS, {'llm': llm})} with {llm}" for llm in _LLMS),
        rule=MORE,
        test=_siglip_over_clip,
        content=False,
    ),
)
