"""The accuracy of one method: train it or find it trained, rank every user's target, keep the ranks.

All experiments on accuracy share these cells, so that row (e) of the ablation is I-LLMRec of the comparison.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from baselines.a_llmrec import described_alignment
from baselines.generative.written_items import WritingModel
from baselines.scores_file import GivenScores
from bench.harness.floors import described_floor, fitted_floor
from bench.harness.idgenrec import described_idgenrec, trained_idgenrec
from bench.harness.lcrec import described_lcrec, trained_lcrec
from bench.harness.methods import (
    CONTROLS,
    FEATURES,
    FLOORS,
    GENERATIVE,
    MULTIMODAL,
    OWN_FORMS,
    RECBOLE,
    TEXTUAL_IDS,
    TOKEN_SCORED,
    Control,
    is_reri_method,
    representation_of,
)
from bench.harness.multimodal import described_multimodal, trained_multimodal
from bench.harness.own_recommenders import fitted_recommender, is_own_recommender, source_of
from bench.harness.pictures import reader_identity
from bench.harness.positions import prompt_costs
from bench.harness.search_spaces import (
    SEARCH_VERSION,
    Search,
    Value,
    is_searched,
    space_of,
    tuned_as,
    widened,
    with_parameters,
)
from bench.harness.training import (
    discard,
    model_folder,
    trained_llm_method,
    trained_on,
    trained_recbole_method,
    unfinished,
)
from bench.harness.tuned import Tuned
from bench.harness.workspace import Workspace
from bench.harness.writing import BEAMS, writing_costs
from bench.protocol import metrics, unbiased
from bench.protocol.evaluation import Scorer, UserScorer, evaluate
from bench.protocol.lists import RecommendedLists, beyond_accuracy
from bench.store.cell import Cell, Outcome, plain_json
from bench.store.store import Store
from illmrec.assembly import FORM, load_representation
from illmrec.data.splits import Split
from illmrec.features.grids import MLLM
from illmrec.model.heads import ITEM_TOKEN
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import reads_llm
from illmrec.states.encoding import encode_positions
from illmrec.states.positions import evaluation_positions
from illmrec.states.scorer import StoredScorer
from illmrec.training import TrainingOptions
from illmrec.training.options import CachedOptions
from illmrec.training.other_seeds import begin_for_seeds

logger = logging.getLogger(__name__)

EXPERIMENT = "accuracy"
VERSION = 3


def accuracy_cell(
    workspace: Workspace,
    method: str,
    *,
    seed: int,
    risa: bool = True,
    features: Sequence[str] = FEATURES,
    history_length: int | None = None,
    context: int | None = None,
    training: TrainingOptions | None = None,
    parameters: Mapping[str, Value] | None = None,
) -> Cell:
    """Return the cell of a method: everything that its numbers depend on.

    Args:
        workspace: Data, features and LLM.
        method: Name of the method.
        seed: Of candidates, CF features, initial parameters and training.
        risa: Train LLM methods by RISA as well.
        features: Feature types that score items (RERI) in LLM methods that do not score them by tokens.
        history_length: Evaluate an LLM method on so many items of history; None as it was trained.
        context: Evaluate an LLM method in this context budget, in tokens; None as it was trained.
        training: How an LLM method is trained, RISA or not included; None as the settings say.
        parameters: Of the method's search space; None takes those that a study chose where the settings say so
            (``--tuned``), and else none.
    """
    settings, dataset = workspace.settings, workspace.dataset
    tuned: dict[str, str] = {}
    own_seed, seed = seed, settings.seeds[0] if settings.seeds_of == "projectors" else seed
    if parameters is None and settings.tuned and is_searched(method):
        search = search_of(workspace, tuned_as(method), features=features, seed=settings.seeds[0])
        study = Tuned.read(settings.out, search.identity)
        parameters, tuned = study.parameters, {"tuned": study.study}
    chosen = dict(parameters or {})
    config: dict[str, Any] = {
        "method": method,
        "seed": seed,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "evaluation": {"users": settings.eval_users, "negatives": settings.negatives, "part": "test"},
        **tuned,
    }
    if dataset.test_targets != "next":
        config["evaluation"]["test_targets"] = dataset.test_targets
    if workspace.variant:
        config["dataset"]["variant"] = workspace.variant
    limits: dict[str, int] = {}
    if is_reri_method(method):
        given = {"history_length": history_length, "context": context}
        limits = {name: value for name, value in given.items() if value is not None}
        asked = training is not None
        training = training or settings.training(risa=risa)
        control = CONTROLS.get(method, Control(of=method))
        readout: Any = control.readout or chosen.get("readout", settings.readout)
        if training.cached is None and not asked and (chosen or not reads_llm(readout)):
            training = settings.stored(replace(training, strategy="cached"))
        training = with_parameters(training, chosen)
        if method in TOKEN_SCORED:
            features, training = (ITEM_TOKEN,), replace(training, loss="ce", negatives_from="outside")
        if training.cached is not None and not reads_llm(readout):
            training = replace(training, risa=False, cached=replace(training.cached, warm_up=0))
        if training.cached is not None and settings.seeds_of == "projectors":
            training = replace(training, cached=replace(training.cached, projector_seed=own_seed))
            config |= {"base_seed": seed, "seed": own_seed}
        risa = training.risa
        config["evaluation"] |= limits
        shown = workspace.shown(representation_of(method))
        slots = load_representation(shown["representation"]).slots
        if not (slots and reads_llm(readout)):  # no adaptor
            training = replace(training, adaptor_start="drawn")
        config |= {"readout": readout} if readout != "last" else {}
        config |= {"slot_content": control.slot_content} if control.slot_content != "features" else {}
        form = FORM | settings.form() | OWN_FORMS.get(method, {})
        form |= {name: chosen[name] for name in FORM if name in chosen}
        config |= {name: value for name, value in form.items() if value != FORM[name]}
        config |= {
            **shown,
            "llm": workspace.backbone.describe(),
            "encoders": workspace.encoder_identities((*slots, *features)),
            "risa": risa,
            "features": list(features),
            "history_length": chosen.get("history_length", settings.history_length),
            "context": settings.context,
            "instruction": settings.instruction,
            "training": training.described(),
        }
        if not reads_llm(readout):  # whatever it would have read
            del config["llm"], config["rendered"]
        if "summary" in load_representation(config["representation"]).columns:
            config["summarizer"] = workspace.summarizer
        if MLLM in slots:
            config["reader"] = reader_identity(settings.llm)
        if not {"cf", "aligned"}.isdisjoint((*slots, *features)):
            config["cf"] = workspace.described_recbole("sasrec")
        if "aligned" in slots:
            config["alignment"] = described_alignment(settings.alignment)
    elif method in FLOORS:
        config |= described_floor(method, workspace, features=tuple(features), parameters=chosen)
    elif method in GENERATIVE:
        config |= described_lcrec(workspace, training=training, parameters=chosen)
        config["evaluation"]["beams"] = BEAMS
    elif method in TEXTUAL_IDS:
        config |= described_idgenrec(workspace, training=training, parameters=chosen)
        config["evaluation"]["beams"] = BEAMS
    elif method in MULTIMODAL:
        config |= described_multimodal(method, workspace, parameters=chosen)
    elif method in RECBOLE:
        config["training"] = {**workspace.described_recbole(method), **chosen}
    elif method in workspace.scores:
        config["scores"] = workspace.scores[method].content
    elif is_own_recommender(method):
        config["source"] = source_of(method)
    parts = f" {'RISA + ' if risa else ''}{'+'.join(features)}" if is_reri_method(method) else ""
    parts += "".join(f" {name} {value}" for name, value in {**workspace.variant, **limits}.items())
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config=config,
        method=method,
        seed=config["seed"],
        dataset=dataset.statistics(),
        label=f"{method}{parts} seed {config['seed']}",
    )


def search_of(workspace: Workspace, method: str, *, features: Sequence[str], seed: int) -> Search:
    """Return what is searched for a method, from which values on, and what identifies such a search.

    Args:
        workspace: Data, features and LLM; LLM methods are searched on stored states.
        method: A method that has a search space.
        features: Feature types that score items in LLM methods.
        seed: Of the search.
    """
    settings = replace(workspace.settings, strategy="cached", tuned=False, seeds_of="everything")
    place = workspace.derive(variant=workspace.variant, settings=settings)
    cell = accuracy_cell(place, method, seed=seed, features=features, parameters={})
    config = {name: value for name, value in cell.config.items() if name != "evaluation"}
    config["dataset"] = trained_on(config["dataset"])
    space = space_of(method)
    if is_reri_method(method):
        cached = config["training"]["cached"]
        config |= {"readout": config.get("readout", "last")}
        config |= {name: config.get(name, FORM[name]) for name in ("hidden", "depth")}
        known = {**config["training"], **cached, **config}
    else:
        known = {**config, **config.get("lcrec", {}), **config.get("idgenrec", {}), **config["training"]}
    return Search(
        space=widened(space, known),
        defaults={dimension.name: known[dimension.name] for dimension in space},
        identity={"version": SEARCH_VERSION, "negatives": place.settings.negatives, **plain_json(config)},
    )


def compute_accuracy(
    workspace: Workspace, store: Store, *, other_seeds: Callable[[Cell], Sequence[int]] = lambda cell: ()
) -> Callable[[Cell], Outcome]:
    """Return the function that computes an accuracy cell in this workspace.

    Args:
        workspace: Data, features and LLM.
        store: Where trained models are.
        other_seeds: Returns the seeds of cells that are otherwise the same and will be computed after a cell.
    """

    def compute(cell: Cell) -> Outcome:
        users = workspace.users(cell.base_seed)
        others = [seed for seed in other_seeds(cell) if seed != cell.base_seed]
        model, training = trained_method(cell, workspace, store, other_seeds=others)
        lists, negatives = RecommendedLists(), workspace.negatives(cell.base_seed)
        ranks = evaluate(
            scorer_of(model, cell, workspace, users, other_seeds=others),
            workspace.dataset,
            workspace.split,
            negatives=negatives,
            name=cell.method,
            users=users,
            lists=lists,
            progress=workspace.settings.progress,
        )
        sampled = metrics.summarise(ranks["rank_sampled"].to_numpy(), users=ranks["user_id"])
        full = metrics.summarise(ranks["rank_full"].to_numpy(), users=ranks["user_id"])
        counts = np.bincount(workspace.split.train_items(), minlength=workspace.dataset.n_items)
        results = {"users": len(users), "sampled": sampled, "full": full, "training": training}
        if "target" in ranks:
            results["targets"] = len(ranks)
        if cell.method in TOKEN_SCORED:
            results["untrained_tokens"] = _told_untrained(counts, cell.method)
        estimates = unbiased.per_user(
            ranks["rank_sampled"].to_numpy(),
            negatives=negatives.shape[1],
            candidates=candidates_of_targets(workspace.split, users),
        )
        results["estimated"] = metrics.summary(metrics.mean_by_user(estimates, ranks["user_id"]))
        results["lists"] = beyond_accuracy(lists.items, counts=counts)
        if isinstance(model, ILLMRec) and reads_llm(model.readout):
            results["prompt"] = prompt_costs(model, workspace, users)
            if "summarizer" in cell.config:
                results["summaries"] = workspace.summary_report.described()
        if isinstance(model, WritingModel):
            results["prompt"] = writing_costs(
                model, workspace, users, history_length=cell.config["history_length"]
            )
        if "alignment" in cell.config:
            results["alignment"] = _alignment(cell, workspace)
        if isinstance(model, GivenScores):
            results["scores"] = model.described(users)
        if cell.method in MULTIMODAL:
            discard(unfinished(model_folder(store, cell)))
        logger.info("%s: NDCG@10 %.4f among sampled candidates", cell.label, sampled["ndcg@10"])
        recommended = pd.DataFrame(
            lists.items, columns=[f"item_{n + 1}" for n in range(lists.items.shape[1])]
        )
        return Outcome(results=results, frames={"ranks": ranks, "lists": recommended})

    return compute


def _told_untrained(counts: np.ndarray, method: str) -> int:
    """Return how many items have a token that was a negative alone, and say so.

    Args:
        counts: Int64 [n_items], training interactions of each item.
        method: Name of the method.
    """
    untrained = int((counts == 0).sum())
    if untrained:
        logger.warning(
            "%s: %d of %d items are not in training, so that their tokens were moved as negatives alone",
            method,
            untrained,
            len(counts),
        )
    return untrained


def _alignment(cell: Cell, workspace: Workspace) -> dict[str, Any]:
    """Return what aligning CF and text embeddings did; nothing where they were not."""
    meta = workspace.features(("aligned",), seed=cell.base_seed)[0]["aligned"].meta
    return {name: meta[name] for name in ("losses", "matched", "seconds")} if "matched" in meta else {}


def candidates_of_targets(split: Split, users: np.ndarray) -> np.ndarray:
    """Return among how many items each target of the test is ranked in the whole catalogue, itself included.

    Args:
        split: Histories and targets.
        users: Int [selected], row numbers of users who have a target.

    Returns:
        int64 [targets], in the order of the ranks.
    """
    targets = split.every_target("test", users)
    ends = np.searchsorted(targets.places, np.arange(1, len(users)))
    known = [
        len(np.union1d(split.history(int(user), "test"), items))
        for user, items in zip(users, np.split(targets.items, ends), strict=True)
    ]
    return (split.dataset.n_items + 1 - np.array(known, dtype=np.int64))[targets.places]


def trained_method(
    cell: Cell, workspace: Workspace, store: Store, *, other_seeds: Sequence[int]
) -> tuple[Scorer | UserScorer, dict[str, Any]]:
    """Return a trained method and what its training reported."""
    if cell.method in FLOORS:
        return fitted_floor(cell, workspace), {}
    if cell.method in MULTIMODAL:
        return trained_multimodal(cell, workspace, checkpoint=unfinished(model_folder(store, cell)))
    if cell.method in GENERATIVE:
        return trained_lcrec(cell, workspace, model_folder(store, cell))
    if cell.method in TEXTUAL_IDS:
        return trained_idgenrec(cell, workspace, model_folder(store, cell))
    if cell.method in RECBOLE:
        return trained_recbole_method(cell, workspace)
    if cell.method in workspace.scores:
        return workspace.scores[cell.method].read(workspace.dataset, workspace.split), {}
    if is_own_recommender(cell.method):
        return fitted_recommender(
            cell.method, split=workspace.split, dataset=workspace.dataset, seed=cell.seed
        )
    directory = model_folder(store, cell)
    model, training = trained_llm_method(cell, workspace, directory, other_seeds=other_seeds)
    model.limit(**_limits(cell))
    return model, training


def scorer_of(
    method: Scorer | UserScorer,
    cell: Cell,
    workspace: Workspace,
    users: np.ndarray,
    *,
    other_seeds: Sequence[int] = (),
) -> Scorer | UserScorer:
    """Return what scores users: a method itself, or the stored states of one that was trained on such.

    A sweep over lengths or contexts reads other prompts than were stored; what is run plainly stores none.

    Args:
        method: The method of a cell, trained.
        cell: The cell.
        workspace: Data, features and LLM.
        users: Int [selected], row numbers of the users who are tested.
        other_seeds: Seeds of cells that are otherwise the same and will be evaluated after this one.
    """
    strategy = cell.config.get("training", {}).get("strategy")
    if not isinstance(method, ILLMRec) or strategy != "cached" or any(_limits(cell).values()):
        return method
    if method.plain:
        return method
    positions = evaluation_positions(workspace.split, "test", length=method.history_length, users=users)
    options = TrainingOptions(**cell.config["training"]).cached or CachedOptions()
    kept: Any = {"dtype": options.state_dtype, "progress": workspace.settings.progress}
    if not options.trains_jointly:
        alike = [seed for seed in other_seeds if np.array_equal(workspace.users(seed), users)]
        parts = {seed: [positions] for seed in (cell.base_seed, *alike)}
        begin_for_seeds(method, workspace.split, parts, validated=options.validation_users, **kept)
    table = encode_positions(method, positions, **kept)
    return StoredScorer(model=method, positions=positions, table=table)


def _limits(cell: Cell) -> dict[str, int | None]:
    """Return the evaluation options by which a model reads less than it was trained on."""
    return {name: cell.config["evaluation"].get(name) for name in ("history_length", "context")}
