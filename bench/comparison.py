"""Table 1 of the paper: the methods side by side under one protocol."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.frames import beyond_accuracy
from bench.frames.comparison import ABOUT, estimated_frame, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.list_similarity import list_similarities
from bench.harness.methods import ALL, FEATURES, check_features, check_method, every_method
from bench.harness.scores import scores_files
from bench.harness.settings import Settings
from bench.protocol.metrics import METRICS
from illmrec.command_line import run
from illmrec.errors import InputError


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = (ALL,),
    features: tuple[str, ...] = FEATURES,
    scores: tuple[Path, ...] = (),
) -> int:
    """Train and evaluate methods under one protocol (Table 1), each once per seed.

    Writes tables/comparison.csv under --out, tables/comparison_estimated.csv on what sampled candidates say of the
    whole catalogue, and tables/beyond_accuracy.csv on what the first ten recommended items are like beyond being
    right. Trained models are shared with the ablation.

    Args:
        settings: Data, model and training.
        methods: LLM methods (illmrec, illmrec+, tallrec, trsr, full-description, title, description-token, cf-token,
            a-llmrec, unimp, e4srec, I-LLMRec with several image tokens illmrec-2-tokens, illmrec-4-tokens and
            illmrec-8-tokens, mllm, whose LLM reads the pictures itself), their controls (no-llm, llm-and-features,
            illmrec-shuffled, illmrec-noise, illmrec-zero), sequential models (sasrec, gru4rec, bert4rec, esasrec),
            SASRec otherwise (sasrec-short, sasrec-bce, sasrec-recbole), collaborative models that see content (vbpr,
            bm3), methods that write the next item (lc-rec, idgenrec, tiger), floors (item-knn, sequential-rules,
            content-knn, recent-popularity, popularity, random), and your own representation or recommender as
            package.module:Class; all, the default, is every one of the toolkit's that --llm can run.
        features: Feature types that score items (RERI) in LLM methods; without RecBole, image,text.
        scores: Files of scores that were made elsewhere, evaluated beside the methods under the files' names: .parquet,
            .csv or .jsonl with the columns user_id, item_id and score, higher is better, or rank, 1 is best.
    """
    files = scores_files(scores)
    if methods == (ALL,):
        methods = every_method(settings.llm)
    names = [*(check_method(name) for name in methods), *files]
    if not names:
        raise InputError("--methods: give at least one, such as popularity")
    if len(names) == len(files) == 1:
        raise InputError("--scores: nothing to compare it with; name methods as well: --methods popularity")
    scoring = check_features(features)
    bench = Bench(ABOUT, settings)
    bench.workspace.scores = files
    records = bench.accuracy(
        accuracy_cell(bench.workspace, name, seed=seed, features=scoring)
        for seed in bench.settings.seeds
        for name in names
    )
    table = frame(records)
    bench.write(table)
    bench.write(estimated_frame(records), "comparison_estimated")
    bench.write(beyond_accuracy.frame(records, list_similarities(bench, records)), "beyond_accuracy")
    mean = table.groupby(["candidates", "method"], sort=False)[list(METRICS)].mean()
    mean = mean.sort_values(["candidates", "ndcg@10"], ascending=False).reset_index()
    bench.show(mean, f"Methods on {bench.workspace.dataset.name}")
    return bench.finish()


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.comparison"))
