"""Every fast path off: the same losses and gradients, the same ranks from the same parameters, and after training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_models import made_dataset, made_model

from bench.harness.settings import Settings
from bench.suite.plain import COLUMNS, compared, plain_differences
from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError, UnsupportedError
from illmrec.model.backbone import load_backbone
from illmrec.model.illmrec import ILLMRec
from illmrec.ranking import target_ranks
from illmrec.states.encoding import encode_positions
from illmrec.states.positions import evaluation_positions
from illmrec.states.scorer import StoredScorer
from illmrec.training import CachedTrainer, Trainer, TrainingOptions
from illmrec.training.options import CachedOptions

TEXTS = "baselines.text_prompts"
FORMS = {
    "illmrec": {},
    "instruction before": {"instruction": "before"},
    "illmrec+": {"representation": "illmrec.prompts.segments:ImageDescriptionRepresentation"},
    "tallrec": {"representation": f"{TEXTS}:TALLRec"},
    "trsr": {"representation": f"{TEXTS}:TRSR"},
    "full-description": {"representation": f"{TEXTS}:FullDescription"},
    "title": {"representation": f"{TEXTS}:TitleOnly"},
    "sliding context": {"representation": f"{TEXTS}:FullDescription", "context": 150},
    "last+mean": {"readout": "last+mean"},
    "no-llm": {"readout": "features"},
    "llm-and-features": {"readout": "last+features"},
    "raw inputs": {"inputs": "raw", "affinity": "dot", "adaptor": "norm-gelu", "projector": "norm-inside"},
    "zero blocks": {"layers": 0},
}
OPTIONS = TrainingOptions(
    epochs=1, max_steps=3, targets="all", loss="ce", batch_size=12, validation_users=8, answer_tokens=8
)
CLOSE, TRAINED = 2e-4, 0.05
"""Standard deviations of a user's scores within which both ways agree: rounding, and what steps of Adam make of it."""


@pytest.fixture(scope="module")
def dataset():
    found = made_dataset()
    return replace(found, items=found.items.assign(brand=found.items["title"]))


@pytest.fixture(scope="module")
def split(dataset):
    return leave_one_out(dataset)


@pytest.fixture(scope="module")
def negatives(dataset):
    return draw_negatives(dataset, seed=0, n=15, part="valid")


def both(tiny_llm: Path, dataset, form: dict) -> tuple[ILLMRec, ILLMRec]:
    """Return the same untrained model run as usual, and plainly."""
    own = dict(form)
    layers = own.pop("layers", 2)
    return tuple(
        made_model(dataset, load_backbone(str(tiny_llm), layers=layers, dtype="float32", plain=plain), **own)
        for plain in (False, True)
    )


def scores(model: ILLMRec, split) -> tuple[np.ndarray, np.ndarray]:
    users = split.users("test")
    found = model.score([split.history(int(user), "test") for user in users])
    return found, target_ranks(found, split.targets("test")[users])


def check_same(usual: ILLMRec, plain: ILLMRec, split, *, close: float = CLOSE) -> None:
    (here, ranks), (there, other) = scores(usual, split), scores(plain, split)
    assert float((np.abs(here - there).max(axis=1) / here.std(axis=1)).max()) < close
    assert (ranks == other).all() or close > CLOSE


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_ranks_of_the_same_parameters(form: str, tiny_llm, dataset, split) -> None:
    usual, plain = both(tiny_llm, dataset, FORMS[form])
    assert plain.engine.execution.rows == ("pooled" if form == "zero blocks" else "separate")
    assert plain.engine.execution.attention == ("sdpa" if form == "zero blocks" else "eager")
    for model in (usual, plain):
        model.calibrate([split.train(user) for user in range(dataset.n_users)])
    check_same(usual, plain, split)


@pytest.mark.parametrize("loss", ["ce", "bce"])
@pytest.mark.parametrize("form", ["illmrec", "instruction before", "illmrec+", "sliding context"])
def test_losses_and_gradients_of_a_step(form: str, loss: str, tiny_llm, dataset, split, negatives) -> None:
    found = []
    for model in both(tiny_llm, dataset, FORMS[form]):
        options = replace(OPTIONS, loss=loss)
        trainer = Trainer(
            model=model, split=split, options=options, seed=0, negatives=negatives, progress=False
        )
        gradients: dict[str, torch.Tensor] = {}
        trainer.optimiser.step = lambda model=model, into=gradients: into.update(
            {name: value.grad.clone() for name, value in model.named_parameters()}
        )
        trainer._train_step()
        found.append((dict(trainer._sums), gradients))
    (losses, gradients), (plain_losses, plain_gradients) = found
    assert losses == pytest.approx(plain_losses, rel=1e-5) and set(losses) >= {"reri"}
    assert ("risa" in losses) == (form != "sliding context")  # which has nothing that it would train
    assert gradients.keys() == plain_gradients.keys() and gradients
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            plain_gradients[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-7
        )


@pytest.mark.parametrize("form", ["illmrec", "tallrec", "illmrec+"])
def test_training_plainly_is_no_farther_away_than_rounding(
    form: str, tiny_llm, dataset, split, negatives
) -> None:
    """Runs of the usual way that begin a millionth apart end as far from each other."""
    models = both(tiny_llm, dataset, FORMS[form])
    moved = [both(tiny_llm, dataset, FORMS[form])[0] for _ in range(3)]
    for seed, model in enumerate(moved):
        generator = torch.Generator().manual_seed(seed)
        for parameter in (found for found in model.parameters() if found.requires_grad):
            parameter.data *= 1 + 1e-6 * torch.randn(parameter.shape, generator=generator)
    for model in (*models, *moved):
        Trainer(model=model, split=split, options=OPTIONS, seed=0, negatives=negatives, progress=False).run()
    check_same(*models, split, close=TRAINED)
    (usual, _), (plain, _) = (scores(model, split) for model in models)
    control = [scores(model, split)[0] for model in moved]
    apart = [
        float((np.abs(usual - other).max(axis=1) / usual.std(axis=1)).max()) for other in (plain, *control)
    ]
    assert apart[0] < 5 * max(apart[1:])


def test_stored_states_against_none(tiny_llm, dataset, split, negatives, tmp_path) -> None:
    cached = CachedOptions(warm_up=40, epochs=3, batch_size=64, state_dtype="float32", validation_users=8)
    options = replace(OPTIONS, strategy="cached", cached=cached, max_steps=None)
    models = both(tiny_llm, dataset, {})
    folders = (tmp_path / "usual", tmp_path / "plain")
    for model, folder in zip(models, folders, strict=True):
        CachedTrainer(
            model=model,
            split=split,
            options=options,
            seed=0,
            negatives=negatives,
            cache=folder,
            progress=False,
        ).run()
    assert (folders[0] / "states").is_dir() and not folders[1].exists()  # plainly nothing is stored
    check_same(*models, split, close=TRAINED)
    positions = evaluation_positions(split, "test", length=5)
    models[1].load_state_dict(models[0].state_dict())
    usual, plain = (
        encode_positions(model, positions, cache=folder, dtype="float32", progress=False)
        for model, folder in zip(models, folders, strict=True)
    )
    torch.testing.assert_close(plain.values, torch.as_tensor(usual.values), rtol=1e-4, atol=1e-4)
    stored, computed = StoredScorer(model=models[0], positions=positions, table=usual), models[1]
    histories = [split.history(int(user), "test") for user in split.users("test")]
    targets = split.targets("test")[split.users("test")]
    ranks = [target_ranks(way.score(histories), targets) for way in (stored, computed)]
    assert (ranks[0] == ranks[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["illmrec", "instruction before", "tallrec"])
def test_the_embedded_llm(form: str, dataset, split) -> None:
    models = [
        made_model(dataset, load_backbone(layers=2, dtype="float32", plain=plain), **FORMS[form])
        for plain in (False, True)
    ]
    for model in models:
        model.calibrate([split.train(user) for user in range(8)])
    users = split.users("test")[:6]
    histories, targets = [split.history(int(user), "test") for user in users], split.targets("test")[users]
    here, there = (model.score(histories) for model in models)
    assert float((np.abs(here - there).max(axis=1) / here.std(axis=1)).max()) < 1e-3
    assert (target_ranks(here, targets) == target_ranks(there, targets)).all()


def test_what_goes_on_from_stored_keys_is_refused(tiny_llm, dataset) -> None:
    _, plain = both(tiny_llm, dataset, {})
    fitted = [plain.prompts.fit(np.arange(3))]
    with pytest.raises(UnsupportedError, match=r"--plain: .* is a fast path"):
        plain.hidden(plain.pack(fitted, [np.array([3])]), kept={})


def test_a_plain_llm_is_another_in_the_key(tiny_llm) -> None:
    usual, plain = (
        load_backbone(str(tiny_llm), dtype="float32", plain=way).describe() for way in (False, True)
    )
    assert plain == {**usual, "plain": True} and "plain" not in usual
    assert Settings(plain=True).resolved().dtype == "float32"


@pytest.mark.parametrize(
    "fast",
    [
        {"compile": True},
        {"dtype": "bfloat16"},
        {"state_dtype": "float16"},
        {"checkpointing": True},
        {"workers": 2},
    ],
    ids=str,
)
def test_a_fast_path_beside_it_is_refused(fast: dict) -> None:
    with pytest.raises(InputError, match="--plain: --"):
        Settings(plain=True, **fast)


def test_a_score_that_differs_is_told() -> None:
    import pandas as pd

    ranks = pd.DataFrame({"rank_sampled": [1, 2], "rank_full": [3, 4]})
    other = pd.DataFrame({"rank_sampled": [1, 3], "rank_full": [3, 4]})
    here = np.array([[0.0, 2.0], [0.0, 2.0]])
    found = compared((ranks, here), (other, here + np.array([[0, 0], [0, 0.5]])))
    assert found == {"users": 2, "sampled_differ": 1, "full_differ": 0, "score_difference": 0.5}


def test_a_stored_comparison_is_scored_both_ways(tiny_llm, tiny_encoders, tmp_path) -> None:
    from bench.comparison import main
    from illmrec.command_line import run

    common = [
        "--preset", "smoke", "--llm", str(tiny_llm), *tiny_encoders, "--methods", "popularity,title",
        "--features", "text", "--max-users", "12", "--max-steps", "2", "--no-progress",
    ]  # fmt: skip
    sides = [
        [*common, *own, "--out", str(tmp_path / own[0])] for own in (["--dtype", "float32"], ["--plain"])
    ]
    for side in sides:
        assert run(main, prog="x", args=[*side, "--no-report"]) == 0
    import os

    found = plain_differences(*sides, cache=Path(os.environ["ILLMREC_CACHE"]))
    assert tuple(found.columns) == COLUMNS
    assert found["method"].tolist() == ["title"] * 2
    assert found["parameters"].tolist() == ["the same", "their own"]
    assert not found[["sampled_differ", "full_differ"]].iloc[0].any() and (found["users"] == 12).all()
    assert found["score_difference"][0] < CLOSE and found["score_difference"][1] < TRAINED
