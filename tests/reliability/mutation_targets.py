"""The modules whose tests mutants.py tries, and which tests these are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """A module and what tests it.

    Attributes:
        tests: Files below ``tests/``.
        only: Functions, classes and constants that are changed; all where it is empty.
    """

    tests: tuple[str, ...]
    only: tuple[str, ...] = ()


_PROTOCOL = "bench/protocol/test_protocol.py"
TARGETS = {
    "bench.protocol.evaluation": Target(tests=(_PROTOCOL, "bench/protocol/test_day_targets.py")),
    "bench.protocol.lists": Target(tests=("bench/protocol/test_lists.py", _PROTOCOL)),
    "bench.protocol.metrics": Target(
        tests=("bench/protocol/test_metrics.py", "bench/protocol/test_day_targets.py")
    ),
    "bench.protocol.statistics": Target(
        tests=(
            "bench/protocol/test_statistics.py",
            "bench/protocol/test_metrics.py",
            "bench/protocol/test_variances.py",
        )
    ),
    "bench.protocol.unbiased": Target(tests=("bench/protocol/test_unbiased.py",)),
    "bench.protocol.variance": Target(
        tests=("bench/protocol/test_variances.py", "bench/protocol/test_statistics.py")
    ),
    "bench.store.cell": Target(tests=("bench/store/test_cell.py", "bench/store/test_store.py")),
    "illmrec.files": Target(tests=("bench/store/test_cell.py",), only=("hash_json",)),
    "illmrec.data.dataset": Target(
        tests=(
            "illmrec/test_data_split_values.py",
            "illmrec/test_data_splits.py",
            "illmrec/test_data_building.py",
        ),
        only=("Dataset", "changed", "content_fingerprint", "DAY"),
    ),
    "illmrec.model.fingerprint": Target(tests=("illmrec/test_fingerprint.py",)),
    "illmrec.model.trunks": Target(tests=("illmrec/test_trunks.py",)),
    "illmrec.data.splits": Target(
        tests=(
            "illmrec/test_data_split_values.py",
            "illmrec/test_data_splits.py",
            "bench/protocol/test_day_targets.py",
        )
    ),
    "illmrec.data.candidates": Target(
        tests=("illmrec/test_data_split_values.py", "illmrec/test_data_splits.py")
    ),
    "illmrec.ranking": Target(tests=("illmrec/test_ranking.py", _PROTOCOL)),
    "illmrec.retrieval.exact": Target(tests=("illmrec/test_retrieval.py",)),
}
