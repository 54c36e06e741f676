"""Appendix E.13 of the paper: the catalogue grows, and a model trained before serves it without training again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from bench.changes.smaller_catalogue import SmallerCatalogue, grown, kept_items
from bench.frames.catalogue_growth import ABOUT, EXPERIMENT, VERSION, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.methods import FEATURES, check_llm_methods, representation_of
from bench.harness.plan import Work
from bench.harness.settings import Settings
from bench.harness.training import model_config, model_folder
from bench.harness.workspace import Workspace
from bench.meters.time_and_memory import Timer, clean_memory, memory_parts
from bench.protocol import metrics
from bench.protocol.evaluation import evaluate
from bench.store.cell import Cell, Outcome
from bench.store.provenance import machine
from bench.store.store import Store
from illmrec.assembly import build_model, load_representation
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.illmrec import ILLMRec
from illmrec.saved_model import load_parameters

_TIMED_USERS, _REPEATS = 32, 3


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """A share of the items, and the workspace that holds them.

    Attributes:
        share: Share of the items.
        rows: Int64 [items], the items by their row in the whole catalogue.
        place: Data, features and LLM.
    """

    share: float
    rows: np.ndarray
    place: Workspace

    def described(self) -> dict[str, Any]:
        """Return share, items and fingerprint, for a cell's key."""
        dataset = self.place.dataset
        return {"share": self.share, "items": dataset.n_items, "fingerprint": dataset.fingerprint}


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = ("illmrec",),
    shares: tuple[float, ...] = (0.5, 0.75, 1.0),
    feature_sets: tuple[str, ...] = ("image+text", "image+cf+text"),
) -> int:
    """Train methods on catalogues of growing size, and let each model serve the larger ones too (Appendix E.13).

    The items of a smaller catalogue are drawn by seed and nested; its users are those with four or more interactions
    with its items, and nothing else is known of them. Image and text features come from an item's content, so that a
    model serves items it was not trained with; CF features do not: a new item gets their mean, which the model sees
    as zeros. Accuracy is reported for all users and apart for those whose test item is new to the model.
    Writes tables/catalogue_growth.csv under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods to train on each catalogue.
        shares: Shares of the items, above 0 to 1, two or more.
        feature_sets: Features that score items, such as image+text, which new items have, and image+cf+text.
    """
    chosen = check_llm_methods(methods, why="score items by their features", by_features=True)
    for method in chosen:
        if "aligned" in load_representation(representation_of(method)).slots:
            raise InputError(
                f"--methods {method}: items that are new have no aligned embedding; leave it out"
            )
    sizes = sorted(set(shares))
    if len(sizes) < 2 or not all(0 < share <= 1 for share in sizes):
        raise InputError("--shares: give two shares or more, above 0 to 1, such as 0.5,0.75,1")
    sets = parse_feature_sets(feature_sets)
    bench = Bench(ABOUT, settings)
    workspace = bench.workspace
    grows = {seed: catalogues(workspace, sizes, seed=seed) for seed in bench.settings.seeds}
    trainings = {
        cell.key: (catalogue, cell)
        for seed, grown_catalogues in grows.items()
        for catalogue in grown_catalogues
        for method in chosen
        for features in sets
        for cell in [accuracy_cell(catalogue.place, method, seed=seed, features=features)]
    }
    trained = bench.accuracy((catalogue.place, cell) for catalogue, cell in trainings.values())
    served = {
        cell.key: (catalogue, training, larger, cell)
        for key in (trainings if bench.planning else (record.key for record in trained))
        for catalogue, training in [trainings[key]]
        for larger in grows[training.seed]
        if larger.share >= catalogue.share
        for cell in [growth_cell(workspace, training, catalogue, larger)]
    }
    records = bench.run(
        [cell for *_, cell in served.values()],
        compute_growth(served, bench.store),
        place_of=lambda cell: served[cell.key][2].place,
        work=lambda cell: Work(evaluated=cell.method),
    )
    table = frame(records, bench.store)
    bench.write(table)
    bench.show(_mean(table), f"Growing catalogue of {workspace.dataset.name}, sampled candidates")
    return bench.finish()


def parse_feature_sets(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return feature sets written as ``image+text``, each once and in the order of features.

    Raises:
        InputError: If there is none, or a feature is unknown.
    """
    found: list[tuple[str, ...]] = []
    for text in texts:
        names = set(text.split("+"))
        if not names <= set(FEATURES):
            raise InputError(f"--feature-sets {text}: write some of {', '.join(FEATURES)} joined by +")
        found.append(tuple(name for name in FEATURES if name in names))
    if not found:
        raise InputError("--feature-sets: give at least one, such as image+text")
    return list(dict.fromkeys(found))


def catalogues(workspace: Workspace, shares: Sequence[float], *, seed: int) -> list[Catalogue]:
    """Return the catalogue of each share, the smallest first; the whole one is the workspace itself.

    Raises:
        InputError: If a share leaves too little.
    """
    found = []
    for share in shares:
        rows = kept_items(workspace.dataset.n_items, share=share, seed=seed)
        whole = len(rows) == workspace.dataset.n_items
        place = workspace if whole else SmallerCatalogue(whole=workspace, rows=rows, share=share, seed=seed)
        found.append(Catalogue(share=share, rows=rows, place=place))
    return found


def growth_cell(workspace: Workspace, training: Cell, trained: Catalogue, served: Catalogue) -> Cell:
    """Return the cell of a model that was trained on one catalogue and serves another.

    Args:
        workspace: The whole catalogue.
        training: The accuracy cell of the model.
        trained: What it was trained on.
        served: What it serves, at least as large.
    """
    dataset = workspace.dataset
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config={
            "method": training.method,
            "seed": training.seed,
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "llm": training.config["llm"],
            "features": training.config["features"],
            "model": training.key,
            "trained": trained.described(),
            "served": served.described(),
            "eval_users": workspace.settings.eval_users,
            "timed_users": _TIMED_USERS,
            "device": workspace.device,
            "machine": machine(),
            "threads": torch.get_num_threads(),
        },
        method=training.method,
        seed=training.seed,
        dataset=dataset.statistics(),
        label=f"{training.method} {'+'.join(training.config['features'])} trained on {trained.share:g}"
        f" serves {served.share:g} seed {training.seed}",
    )


def compute_growth(
    plan: dict[str, tuple[Catalogue, Cell, Catalogue, Cell]], store: Store
) -> Callable[[Cell], Outcome]:
    """Return the function that lets a trained model serve a catalogue, and measures it.

    Args:
        plan: By key of the cell: what the model was trained on, its accuracy cell, what it serves, the cell.
        store: Where the trained parameters are.
    """

    def compute(cell: Cell) -> Outcome:
        trained, training, served, _ = plan[cell.key]
        place = served.place
        model, widths = serving_model(trained, training, served, store)
        users = place.users(training.base_seed)
        ranks = evaluate(
            model,
            place.dataset,
            place.split,
            negatives=place.negatives(training.base_seed),
            name=cell.method,
            users=users,
            progress=place.settings.progress,
        )
        targets = served.rows[place.split.every_target("test", users).items]
        ranks = ranks.assign(target_is_new=~np.isin(targets, trained.rows))
        projected = 4 * len(model.heads) * model.shared
        return Outcome(
            results={
                "users": len(users),
                "new_targets": int(ranks["target_is_new"].sum()),
                "sampled": metrics.summarise(ranks["rank_sampled"].to_numpy(), users=ranks["user_id"]),
                "full": metrics.summarise(ranks["rank_full"].to_numpy(), users=ranks["user_id"]),
                **_speed(model, [place.split.history(int(user), "test") for user in users[:_TIMED_USERS]]),
                "feature_bytes_per_item": 4 * sum(widths.values()),
                "projected_bytes_per_item": projected,
                "model_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
            },
            frames={"ranks": ranks},
        )

    return compute


def serving_model(
    trained: Catalogue, training: Cell, served: Catalogue, store: Store
) -> tuple[ILLMRec, dict[str, int]]:
    """Return a model trained on one catalogue over the items of another, and the widths of its features.

    Raises:
        InputError: If its parameters are not in the store.
    """
    config, directory = training.config, model_folder(store, training)
    if not directory.is_dir():
        raise InputError(
            f"{directory}: the trained model is gone, its accuracy is still stored; --overwrite always trains it again"
        )
    representation = load_representation(config["representation"])
    needed = tuple(dict.fromkeys((*representation.slots, *config["features"])))
    features, has_image = served.place.features(
        [name for name in needed if name != "cf"], seed=training.base_seed
    )
    at = np.searchsorted(served.rows, trained.rows)
    if "cf" in needed:
        own = trained.place.features(["cf"], seed=training.base_seed)[0]["cf"]
        features["cf"] = grown(own, at, n_items=len(served.rows), elsewhere=np.zeros(own.width))
    model = build_model(
        model_config(config, seed=training.base_seed),
        dataset=served.place.dataset_of(representation),
        backbone=served.place.backbone,
        features=features,
        has_image=has_image,
    )
    load_parameters(model, directory, features={name: table.values for name, table in features.items()})
    if "cf" in needed:
        # Centred by the mean of the training, exactly, a new item has zeros: nothing is known about it.
        mean = model.get_buffer("mean_cf").cpu().numpy()
        features["cf"] = grown(own, at, n_items=len(served.rows), elsewhere=mean)
        model.set_features({name: table.values for name, table in features.items()})
    return model.eval(), {name: table.width for name, table in features.items()}


def _speed(model: ILLMRec, histories: list[np.ndarray]) -> dict[str, float]:
    """Return users per second from item ids to scores of the catalogue, peak memory and seconds to project it."""
    device = model.engine.backbone.device
    indexing, scoring = [], []
    model.score(histories[:2])  # warm-up: not counted
    with clean_memory(device) as memory:
        for _ in range(_REPEATS):
            with Timer(device) as timer:
                catalogue = model.catalogue()
            indexing.append(timer.seconds)
            with Timer(device) as timer:
                model.score(histories, catalogue=catalogue)
            scoring.append(timer.seconds)
    return {
        "users_per_second": len(histories) / float(np.median(scoring)),
        "index_seconds": float(np.median(indexing)),
        "peak_memory_mb": memory_parts(model, memory)["peak_memory_mb"],
    }


def _mean(table: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds of NDCG@10 by kind of target, with users per second and memory."""
    sampled = table[table["candidates"] == "sampled"]
    keys = ["method", "features", "served_share", "served_items", "trained_share"]
    accuracy = sampled.pivot_table(index=keys, columns="targets", values="ndcg@10", sort=False)
    accuracy = accuracy.rename(columns=lambda targets: f"ndcg@10 {targets}")
    whole = sampled[sampled["targets"] == "all"].groupby(keys, sort=False)
    costs = whole[["users_per_second", "peak_memory_mb", "feature_bytes_per_item"]].mean()
    return accuracy.join(costs).reset_index()


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.catalogue_growth"))
