"""Results of an accuracy cell stand beside the model that it evaluates, for the model's card."""

from __future__ import annotations

import json

from bench.harness.runner import run_cells
from bench.harness.training import model_folder, note_results
from bench.store.cell import Cell, Outcome
from bench.store.store import Store


def test_each_evaluation_of_a_model_is_noted_beside_it(tmp_path):
    store = Store(tmp_path)

    def evaluated(**limits: int) -> Cell:
        config = {
            "method": "tiny",
            "seed": 0,
            "dataset": {"name": "data", "fingerprint": "0"},
            "evaluation": {"users": 3, **limits},
        }
        return Cell(experiment="accuracy", version=3, config=config, method="tiny", seed=0, dataset={})

    def compute(cell: Cell) -> Outcome:
        return Outcome(results={"sampled": {"ndcg@10": 1 / cell.config["evaluation"].get("context", 2)}})

    cells = [evaluated(), evaluated(context=512)]
    records = run_cells(cells, compute, store, progress=False).records
    for record in records:
        note_results(store, record)  # nothing was trained: a floor, say
    folder = model_folder(store, records[0])
    assert not folder.exists() and folder == model_folder(store, records[1])
    folder.mkdir(parents=True)
    for record in records:
        note_results(store, record)
    notes = {path.stem: json.loads(path.read_text()) for path in (folder / "results").iterdir()}
    assert set(notes) == {record.key for record in records}
    assert notes[records[1].key]["evaluation"]["context"] == 512
    assert notes[records[0].key]["results"] == {"sampled": {"ndcg@10": 0.5}}
