"""What a store and a cache hold: cells, state and feature tables, candidates, indexes, summaries, studies."""

from __future__ import annotations

import importlib
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from contained import Reader
from hostile_archives import bomb, hostile_zip
from hostile_tables import parquet
from mutated_files import json_text, mutated_bytes, mutated_npy, mutated_value

from illmrec.checksums import seal

RANKS = [{"user_id": f"u{user}", "sampled_rank": 1 + user, "full_rank": 3 + user} for user in range(5)]
RESULTS = {"users": 5, "sampled": {"ndcg@10": 0.25}, "full": {"ndcg@10": 0.125}}


def _cell() -> Any:
    from bench.store.cell import Cell

    return Cell(
        experiment="accuracy", version=1, method="popularity", seed=0, dataset={"name": "tiny"},
        config={"dataset": {"name": "tiny", "fingerprint": "0" * 16}, "method": "popularity", "seed": 0},
    )  # fmt: skip


def _prepare_cells(corpus: Path) -> None:
    import pandas as pd

    from bench.store.store import Store

    record = Store(corpus).write(_cell(), RESULTS, {"ranks": pd.DataFrame(RANKS)}, seconds=1.0)
    (corpus / "cell.json").write_bytes((record.folder / "cell.json").read_bytes())
    (corpus / "ranks.parquet").write_bytes((record.folder / "ranks.parquet").read_bytes())


def _spoilt_cell(rng: random.Random, corpus: Path) -> dict[str, bytes]:
    described = json.loads((corpus / "cell.json").read_text())
    if rng.random() < 0.7:
        # Mostly of what is not in the key: a wrong key is refused at once.
        part = rng.choice(("results", "machine", "versions", "config", "dataset"))
        changed = mutated_value(rng, {part: described[part]}, most=1)
        described = {**described, **changed} if isinstance(changed, dict) else described
    else:
        described = mutated_value(rng, described)
    ranks = parquet(rng, RANKS) if rng.random() < 0.5 else (corpus / "ranks.parquet").read_bytes()
    return {"cell.json": json_text(rng, described, indent=1), "ranks.parquet": ranks}


def _write_cell(rng: random.Random, folder: Path, corpus: Path) -> None:
    cell = _cell()
    place = folder / "store" / "cells" / cell.experiment / cell.key
    place.mkdir(parents=True)
    for name, content in _spoilt_cell(rng, corpus).items():
        (place / name).write_bytes(content)
    if rng.random() < 0.03:
        path = place / rng.choice(("cell.json", "ranks.parquet"))
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()


def _read_cell(folder: Path, corpus: Path) -> None:
    from bench.store.store import Store

    _check_record(Store(folder), _cell())


def _check_record(store: Any, cell: Any) -> None:
    import pandas as pd

    record = store.find(cell)
    if record is None:
        return
    assert record.key == cell.key and isinstance(record.results, dict)
    json.dumps(record.results, allow_nan=False)  # what was written has neither NaN nor infinity
    assert len(store.records()) == 1
    assert isinstance(store.table(cell.experiment), pd.DataFrame)
    assert isinstance(store.read_frame(record, "ranks"), pd.DataFrame)


def _write_shared(rng: random.Random, folder: Path, corpus: Path) -> None:
    cell = _cell()
    place = folder / "shared" / "cells" / cell.experiment
    place.mkdir(parents=True)
    kind = rng.randrange(10)
    if kind == 0:
        content = hostile_zip(rng)
    elif kind == 1:
        content = bomb(
            rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)), honest=rng.random() < 0.5
        ).replace(b"images/B1.jpg", b"abcde.parquet")
    else:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, held in _spoilt_cell(rng, corpus).items():
                archive.writestr(zipfile.ZipInfo(name), held)
            if kind == 2:
                archive.writestr(
                    zipfile.ZipInfo(
                        rng.choice(("../evil.parquet", "/tmp/evil.parquet", "evil.txt", "a\n.parquet"))
                    ),
                    b"evil",
                )
            if kind == 3:
                info = zipfile.ZipInfo("link.parquet")
                info.create_system, info.external_attr = 3, 0o120777 << 16
                archive.writestr(info, b"../../../../../outside/secret.txt")
        content = file.getvalue()
        if rng.random() < 0.4:
            content = mutated_bytes(rng, content)
    (place / f"{cell.key}.zip").write_bytes(content)


def _read_shared(folder: Path, corpus: Path) -> None:
    from bench.store.shared import SharedStore

    _check_record(SharedStore(folder / "out", f"file://{folder}/shared"), _cell())


_VALUES = np.arange(24, dtype=np.float32).reshape(6, 4) / 7


def _write_table(
    rng: random.Random, folder: Path, described: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    spoilt = rng.choice((*arrays, "meta.json"))
    for name, array in arrays.items():
        file = io.BytesIO()
        np.save(file, array)
        (folder / name).write_bytes(mutated_npy(rng, array) if spoilt == name else file.getvalue())
    meta = (
        json_text(rng, mutated_value(rng, described))
        if spoilt == "meta.json"
        else json.dumps(described).encode()
    )
    (folder / "meta.json").write_bytes(meta)


def _write_features(rng: random.Random, folder: Path, corpus: Path) -> None:
    table = folder / ("0" * 16)
    table.mkdir()
    described = {"format": 1, "key": "0" * 16, "items": 6, "width": 4, "meta": {"encoder": "x", "vectors": 2}}
    narrow = rng.random() < 0.3
    if narrow:
        described["dtype"] = "float16"
    values = _VALUES.astype(np.float16) if narrow else _VALUES
    _write_table(rng, table, described, {"values.npy": values, "present.npy": np.ones(6, dtype=bool)})


def _read_features(folder: Path, corpus: Path) -> None:
    from illmrec.features.table import FeatureTable

    table = FeatureTable.open(folder / ("0" * 16))
    values = table.values
    assert values.dtype == np.float32 and values.ndim == 2 and table.width == values.shape[1]
    assert table.present.dtype == bool and table.present.shape == values.shape[:1]
    assert isinstance(table.key, str) and isinstance(table.meta, dict)
    assert table.vectors >= 1 and table.item_bytes > 0 and table.embeddings in (True, False)


def _write_states(rng: random.Random, folder: Path, corpus: Path) -> None:
    table = folder / ("0" * 16)
    table.mkdir()
    dtype = rng.choice(("float32", "float16", "bfloat16"))
    values = {
        "float32": _VALUES,
        "float16": _VALUES.astype(np.float16),
        "bfloat16": (_VALUES * 100).astype(np.uint16),
    }
    described = {
        "format": 1,
        "key": "0" * 16,
        "positions": 6,
        "width": 4,
        "dtype": dtype,
        "meta": {"seconds": 1.0},
    }
    _write_table(rng, table, described, {"values.npy": values[dtype]})


def _read_states(folder: Path, corpus: Path) -> None:
    import torch

    from illmrec.states.table import StateTable

    table = StateTable.open(folder / ("0" * 16))
    rows = table.rows(np.array([0]) if len(table) else slice(0, 0))
    assert rows.dtype == torch.float32 and rows.shape[1] == table.width and isinstance(table.meta, dict)


def _write_candidates(rng: random.Random, folder: Path, corpus: Path) -> None:
    (folder / "candidates.npy").write_bytes(mutated_npy(rng, np.arange(12, dtype=np.int32).reshape(3, 4)))


def _read_candidates(folder: Path, corpus: Path) -> None:
    from illmrec.data.candidates import _stored

    stored = _stored(folder / "candidates.npy", shape=(3, 4))
    assert stored.shape == (3, 4) and stored.dtype == np.int32


def _prepare_index(corpus: Path) -> None:
    from illmrec.retrieval.index import build_index

    build_index(_VALUES, kind="exact").save(corpus / "index")


def _write_index(rng: random.Random, folder: Path, corpus: Path) -> None:
    (folder / "index").mkdir()
    for path in sorted((corpus / "index").iterdir()):
        content = path.read_bytes()
        if path.suffix == ".npy" and rng.random() < 0.5:
            content = mutated_npy(rng, _VALUES)
        elif path.suffix == ".json" and rng.random() < 0.7:
            content = json_text(rng, mutated_value(rng, json.loads(content)))
        (folder / "index" / path.name).write_bytes(content)
    if rng.random() < 0.8:
        seal(folder / "index")  # who sends a hostile index sums it up as well


def _read_index(folder: Path, corpus: Path) -> None:
    from illmrec.retrieval.index import load_index

    index = load_index(folder / "index")
    assert index.n_items >= 1 and index.width >= 1
    found = index.search(np.zeros((1, index.width), dtype=np.float32), k=1)
    assert found.items.shape == (1, 1)


def _write_summaries(rng: random.Random, folder: Path, corpus: Path) -> None:
    entry = {"item": "0" * 16, "title": "Mug", "summary": "A red mug.", "cut": False, "seconds": 0.5}
    lines = [json.dumps({**entry, "item": f"{number:016x}"}).encode() for number in range(4)]
    lines[rng.randrange(4)] = json_text(rng, mutated_value(rng, entry))
    content = b"\n".join(lines) + rng.choice((b"\n", b""))
    (folder / "summaries.jsonl").write_bytes(mutated_bytes(rng, content) if rng.random() < 0.4 else content)
    if rng.random() < 0.02:
        (folder / "summaries.jsonl").unlink()
        (folder / "summaries.jsonl").mkdir()


def _read_summaries(folder: Path, corpus: Path) -> None:
    from baselines.summarizer.store import Answer, SummaryStore

    store = SummaryStore(folder / "summaries.jsonl")
    for number in range(4):
        if (key := f"{number:016x}") in store:
            answer = store[key]
            assert isinstance(answer.text, str) and answer.seconds >= 0 and isinstance(answer.cut, bool)
            answer.text.encode()  # can be written
    store.add([Answer(key="f" * 16, text="more", cut=False, seconds=1.0)], titles=["More"])
    assert "f" * 16 in SummaryStore(folder / "summaries.jsonl")


def _loaded() -> None:
    for name in (
        "baselines.summarizer.store", "bench.harness.tuned", "illmrec.data.candidates", "illmrec.features.table",
        "illmrec.retrieval.index", "illmrec.states.table",
    ):  # fmt: skip
        importlib.import_module(name)


READERS = (
    Reader(
        name="cells", write=_write_cell, read=_read_cell, inputs=120, prepare=_prepare_cells, load=_loaded
    ),
    Reader(
        name="shared-cells",
        write=_write_shared,
        read=_read_shared,
        inputs=80,
        prepare=_prepare_cells,
        load=_loaded,
    ),
    Reader(name="states", write=_write_states, read=_read_states, inputs=150, load=_loaded),
    Reader(name="features", write=_write_features, read=_read_features, inputs=150, load=_loaded),
    Reader(name="candidates", write=_write_candidates, read=_read_candidates, inputs=80, load=_loaded),
    Reader(
        name="indexes", write=_write_index, read=_read_index, inputs=80, prepare=_prepare_index, load=_loaded
    ),
    Reader(name="summaries", write=_write_summaries, read=_read_summaries, inputs=80, load=_loaded),
)
