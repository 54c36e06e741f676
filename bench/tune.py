"""Hyper-parameters of every method, searched with an equal budget on validation alone."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from tqdm import tqdm

from bench.frames.tune import ABOUT, EXPERIMENT, VERSION, trials_frame
from bench.harness.accuracy import accuracy_cell, search_of
from bench.harness.bench import Bench
from bench.harness.floors import fitted_floor
from bench.harness.idgenrec import built_idgenrec, idgenrec_trainer
from bench.harness.lcrec import built_lcrec, lcrec_trainer
from bench.harness.methods import (
    GENERATIVE,
    MULTIMODAL,
    TEXTUAL_IDS,
    check_features,
    check_method,
    is_reri_method,
)
from bench.harness.multimodal import trained_multimodal
from bench.harness.plan import Work
from bench.harness.positions import prompt_costs, warn_of_dropped
from bench.harness.search_spaces import FLOOR_SPACES, Value, is_searched
from bench.harness.settings import Settings
from bench.harness.study_storage import import_optuna, open_storage
from bench.harness.study_trials import (
    OWNER,
    at_work,
    described_trials,
    end_abandoned,
    importances,
    judged,
    spent_seconds,
)
from bench.harness.training import built_model, recbole_options, trainer_of
from bench.harness.tuned import Tuned, study_key
from bench.harness.workspace import Workspace
from bench.protocol.evaluation import Scorer, evaluate
from bench.store.cell import Cell
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError, UnsupportedError
from illmrec.model.readout import reads_llm
from illmrec.ranking import mean_ndcg
from illmrec.temporary import place, process_start

logger = logging.getLogger(__name__)

METHODS = ("illmrec", "tallrec", "no-llm", "sasrec", "gru4rec", *FLOOR_SPACES)


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = METHODS,
    features: tuple[str, ...] = ("image", "text"),
    trials: int | None = None,
    minutes: float | None = None,
    storage: str | None = None,
) -> int:
    """Search hyper-parameters with the same number of trials and minutes for every method.

    Each method has a search space of its own; its first trial has the values that it has otherwise. LLM methods are
    trained on stored states, so that a trial takes seconds to a minute. Trials are drawn by a seeded TPE, stopped early
    where their validation curve is below the median, and judged by validation NDCG@10: the test split is never read.
    What a study chose is used by --tuned in every experiment with the same options. A study that was interrupted goes
    on; several processes may work on one storage. Writes tables/tune.csv under --out.

    Args:
        settings: Data, model and training; the first seed is that of the search.
        methods: Methods to tune: LLM methods and their controls, sasrec, sasrec-short, sasrec-bce, sasrec-recbole,
            gru4rec, bert4rec, esasrec, vbpr, bm3, tiger, lc-rec, idgenrec, item-knn, sequential-rules,
            content-knn, recent-popularity.
        features: Feature types that score items in LLM methods; --tuned takes what was chosen with the same ones, and
            bench.comparison has image,cf,text unless it is told.
        trials: Trials of each method; "none" takes 20, and 3 with the preset smoke.
        minutes: Wall-clock minutes of each method at most, those of earlier runs included; "none" takes 20, and 2 with
            the preset smoke.
        storage: Where studies are kept: any URL of an Optuna storage, such as sqlite:///studies.db; "none" is a journal
            file in --out.
    """
    import_optuna()
    for name in methods:
        if not is_searched(check_method(name)):
            raise InputError(f"--methods {name}: it has nothing to search; leave it out")
    if not methods:
        raise InputError("--methods: give at least one method")
    heads = check_features(features)
    if trials is not None and trials < 1:
        raise InputError(f"--trials {trials}: give at least 1")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise InputError(f"--minutes {minutes}: must be above 0")
    smoke = settings.preset == "smoke"
    count, cap = trials or (3 if smoke else 20), 60 * (minutes or (2.0 if smoke else 20.0))
    bench = Bench(ABOUT, replace(settings, strategy="cached", tuned=False))
    if bench.planning:
        bench.expect(Work(seconds=cap * len(set(methods))))
        return bench.finish()
    settings, workspace, store = bench.settings, bench.workspace, bench.store
    kept_in = open_storage(storage, settings.out)
    tables = []
    for method in dict.fromkeys(methods):
        try:
            search = Study(workspace, method, heads=heads, seed=settings.seeds[0])
            study = search.run(kept_in, trials=count, seconds=cap)
        except UnsupportedError as error:
            logger.error("%s is left out: %s", method, error)
            bench.status = 1
            continue
        found = search.outcome(study)
        found.write(settings.out)
        search.store(study, found, store)
        logger.info(
            "%s: %d trials in %.0f s, validation NDCG@10 %.4f (%s by default)",
            method,
            found.trials,
            found.seconds,
            found.valid_ndcg10,
            "not known" if found.default_ndcg10 is None else f"{found.default_ndcg10:.4f}",
        )
        tables.append(trials_frame(workspace.dataset.name, method, described_trials(study)))
    bench.barren = not tables
    table = pd.concat(tables, ignore_index=True) if tables else trials_frame("", "", [])
    bench.write(table)
    best = table.loc[
        table[table["state"] == "complete"].groupby("method", sort=False)["valid_ndcg@10"].idxmax()
    ]
    bench.show(best.dropna(axis="columns", how="all"), f"Best trials on {workspace.dataset.name}")
    return bench.finish()


class Study:
    """The search for one method's parameters.

    Args:
        workspace: Data, features and LLM; strategy ``cached``.
        method: Name of the method.
        heads: Feature types that score items in LLM methods.
        seed: Of features, initial parameters, training and the search.
    """

    def __init__(self, workspace: Workspace, method: str, *, heads: list[str], seed: int) -> None:
        self.workspace, self.method, self.heads, self.seed = workspace, method, heads, seed
        search = search_of(workspace, method, features=heads, seed=seed)
        self.space, self.defaults, self.identity = search.space, search.defaults, dict(search.identity)

    @property
    def name(self) -> str:
        """Name of the study in its storage."""
        return f"{self.workspace.dataset.name} {self.method} seed {self.seed}"

    def run(self, storage: Any, *, trials: int, seconds: float) -> Any:
        """Search until there are so many trials, or so many seconds are spent.

        Raises:
            InputError: If the storage holds a study of this name that is of something else.
        """
        optuna = import_optuna()
        study = self._opened(storage, self.name)
        known = study.user_attrs.get("identity", self.identity)
        if known.get("features") != self.identity.get("features"):
            # The name does not tell by which features items are scored; that of every study but the first one does.
            study = self._opened(storage, f"{self.name} {'+'.join(self.identity.get('features', ()))}")
        self._claim(study)
        end_abandoned(study)
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3)
        # The clock of the search, and not of the machine: a trial that was cut off is made again.
        started = time.monotonic() - spent_seconds(judged(study))
        with tqdm(
            total=trials, initial=len(judged(study)), desc=self.method, unit="trial",
            disable=not self.workspace.settings.progress,
        ) as bar:  # fmt: skip
            while (done := len(judged(study))) < trials and time.monotonic() - started < seconds:
                others = at_work(study)
                if (
                    not done
                    and not others
                    and not study.get_trials(states=(optuna.trial.TrialState.WAITING,))
                ):
                    study.enqueue_trial(dict(self.defaults))
                # What a trial draws depends on those before it, and not on how often the search was interrupted.
                study.sampler = optuna.samplers.TPESampler(
                    seed=self.seed + done + len(others), n_startup_trials=8, constant_liar=True
                )
                self._try(study)
                bar.update()
        return study

    def _opened(self, storage: Any, name: str) -> Any:
        return import_optuna().create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True
        )

    def _try(self, study: Any) -> None:
        """Make one trial; not by ``Study.optimize``, which hides an error of the storage behind one of its own."""
        optuna = import_optuna()
        trial = study.ask()
        try:
            value = self._objective(trial)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except BaseException:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        else:
            study.tell(trial, value)

    def _claim(self, study: Any) -> None:
        """Note what a new study searches; refuse one that searched something else."""
        known = study.user_attrs.get("identity")
        if known is None:
            study.set_user_attr("identity", self.identity)
            return
        for part, value in self.identity.items():
            if known.get(part) != value:
                raise InputError(
                    f"study '{study.study_name}': it is of another {part} ({_short(known.get(part))}, and here it is "
                    f"{_short(value)}); give another --storage or --out"
                )

    def _objective(self, trial: Any) -> float:
        pid = os.getpid()
        trial.set_user_attr(OWNER, [place(), pid, process_start(pid)])
        parameters = {dimension.name: dimension.suggest(trial) for dimension in self.space}
        optuna = import_optuna()

        def look(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        return self.evaluate(parameters, look)

    def evaluate(self, parameters: Mapping[str, Value], look: Callable[[int, float], None]) -> float:
        """Return the validation NDCG@10 of the method with some parameters.

        Args:
            parameters: A value for each dimension of the space.
            look: Is told every epoch's value.
        """
        workspace = self.workspace
        cell = accuracy_cell(
            workspace, self.method, seed=self.seed, features=self.heads, parameters=parameters
        )
        if is_reri_method(self.method):
            model = built_model(cell, workspace)
            if reads_llm(model.readout):
                costs = prompt_costs(model, workspace, workspace.split.users("valid"), part="valid")
                warn_of_dropped(cell, costs, workspace=workspace)
            report = trainer_of(cell, workspace, model, look=look).run()
            value = report.described()["valid_ndcg@10"]
            return float(value)
        if self.method in FLOOR_SPACES:
            return self._validated(fitted_floor(cell, workspace))
        if self.method in MULTIMODAL:
            fitted, _ = trained_multimodal(cell, workspace, look=look)
            return max(fitted.record.validation_ndcg10)
        if self.method in GENERATIVE:
            network, _ = built_lcrec(cell, workspace)
            written = lcrec_trainer(cell, workspace, network, look=look).run()
            return float(written.described()["valid_ndcg@10"])
        if self.method in TEXTUAL_IDS:
            report = idgenrec_trainer(cell, workspace, built_idgenrec(cell, workspace), look=look).run()
            return float(report.described()["valid_ndcg@10"])
        from baselines.recbole_models import RecBoleRecommender  # RecBole is an extra

        recommender = RecBoleRecommender(options=recbole_options(cell), device=workspace.device)
        record = recommender.fit(
            workspace.dataset,
            workspace.split,
            seed=self.seed,
            negatives=workspace.negatives(self.seed, "valid"),
            progress=False,
        )
        return max(record.validation_ndcg10)

    def _validated(self, floor: Scorer) -> float:
        """Return the validation NDCG@10 of a floor, among sampled candidates, over all users."""
        workspace = self.workspace
        ranks = evaluate(
            floor,
            workspace.dataset,
            workspace.split,
            negatives=workspace.negatives(self.seed, "valid"),
            part="valid",
            progress=False,
        )
        return mean_ndcg(ranks["rank_sampled"].to_numpy(), 10)

    def outcome(self, study: Any) -> Tuned:
        """Return what a study chose.

        Raises:
            InputError: If no trial was finished.
        """
        finished = judged(study)
        complete = [trial for trial in finished if trial.state.name == "COMPLETE"]
        if not complete:
            raise InputError(f"{self.method}: no trial was finished in time; raise --minutes")
        best = max(complete, key=lambda trial: trial.value)
        first = finished[0]
        return Tuned(
            study=study_key(self.identity),
            method=self.method,
            parameters=dict(best.params),
            valid_ndcg10=float(best.value),
            default_ndcg10=float(first.value) if first.state.name == "COMPLETE" else None,
            trials=len(finished),
            seconds=round(spent_seconds(finished), 1),
        )

    def store(self, study: Any, found: Tuned, store: Store) -> None:
        """Store the study as a cell, for the report: it replaces that of the same search with fewer trials."""
        config = {**self.identity, "space": {part.name: part.described() for part in self.space}}
        data = self.workspace.dataset  # whose test a study knows nothing of
        config["dataset"] = {**config["dataset"], "name": data.name, "fingerprint": data.fingerprint}
        cell = Cell(
            experiment=EXPERIMENT,
            version=VERSION,
            config=config,
            method=self.method,
            seed=self.seed,
            dataset=self.workspace.dataset.statistics(),
            label=f"search for {self.method}",
        )
        results = {
            "trials": found.trials,
            "seconds": found.seconds,
            "valid_ndcg@10": found.valid_ndcg10,
            "default_ndcg@10": found.default_ndcg10,
            "parameters": dict(found.parameters),
            "importances": importances(study),
        }
        trials = trials_frame(self.workspace.dataset.name, self.method, described_trials(study))
        # One column of a file has one type; a parameter may be a number in one trial and a word in another.
        parameters = [name for name in trials.columns if name in {part.name for part in self.space}]
        store.write(
            cell,
            results,
            {"trials": trials.astype(dict.fromkeys(parameters, str))},
            seconds=found.seconds,
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.tune"))
