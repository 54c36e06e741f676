"""Options in which cells differ."""

from __future__ import annotations

from stored import section_of

from reports.wording.cautions import differing, timing_notes, variant_notes


def test_differing_options(filler) -> None:
    first = filler.accuracy("tallrec", 0.3, seeds=(0, 1), risa=True, features=("image",))
    assert differing(first) == {}
    second = filler.accuracy(
        "trsr", 0.3, risa=True, features=("image",), training={"preset": "smoke", "risa": True}
    )
    found = differing([*first, *second], ignored=("method",))
    assert found == {"training.preset": ['"small"', '"smoke"'], "training.epochs": ["8", "not set"]}


def test_states_that_were_stored_before_training_learnt_nothing_from_risa(filler) -> None:
    options = {"risa": True, "features": ("image",), "seeds": (0,)}
    filler.accuracy("illmrec", 0.4, **options, training={"strategy": "cached", "cached": {"warm_up": 0}})
    filler.accuracy("tallrec", 0.3, **options)
    section = section_of(filler)
    notes = " ".join(variant_notes(list(section.headline.values()), section.styles))
    assert "Projectors alone were trained of I-LLMRec: states were stored" in notes
    assert "image features, no RISA: the fullest" in notes


def test_methods_without_an_llm_are_timed_under_the_same_conditions(filler) -> None:
    filler.efficiency(["illmrec", "title"], [5])
    filler.efficiency(["sasrec"], [5], llm=False)
    assert timing_notes(filler.store.records()) == ()
    records = filler.store.records()
    for record, encoders in zip(
        records, ({"text": "minilm"}, {"text": "minilm", "image": "siglip"}), strict=False
    ):
        record.config["encoders"] = encoders
    assert timing_notes(records) == (), "a method has the encoders that it reads"
    records[-1].config["encoders"] = {"text": "wordvec"}
    assert "different conditions: encoders.text" in timing_notes(records)[0]
    filler.efficiency(["gru4rec"], [5], llm=False, device="cuda")
    (note,) = timing_notes(filler.store.records())
    assert "different conditions: device" in note and "llm" not in note
