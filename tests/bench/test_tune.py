"""Hyper-parameter search: equal budgets, validation alone, studies that go on, and what --tuned takes from them."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from noise_features import put_noise

from bench import comparison, tune
from bench.frames.tune import trials_frame
from bench.harness.accuracy import accuracy_cell, search_of
from bench.harness.search_spaces import LLM_SPACE, OWN_SPACES, RECBOLE_SPACE, Choice, widened, with_parameters
from bench.harness.settings import Settings
from bench.harness.study_journal import StudyJournal
from bench.harness.training import model_folder
from bench.harness.tuned import Tuned, study_key
from bench.harness.workspace import Workspace
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split
from illmrec.errors import InputError
from illmrec.training import TrainingOptions

optuna = pytest.importorskip("optuna")

SMALL = [
    *("--preset", "smoke", "--users", "60", "--items", "60", "--min-interactions", "1", "--layers", "2"),
    *("--instruction", "before", "--no-progress", "--no-report", "--negatives", "20"),
]
TUNE = [*SMALL, "--methods", "title", "--features", "text"]


def tuned(out, llm, *arguments: str) -> int:
    return run(
        tune.main,
        prog="bench.tune",
        args=[*TUNE, "--minutes", "60", "--llm", str(llm), "--out", str(out), *arguments],
    )


@pytest.fixture(scope="module")
def studied(tmp_path_factory, tiny_llm):
    """An output folder with a study of three trials."""
    out = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILLMREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert tuned(out, tiny_llm, "--trials", "3") == 0
    return out


def test_the_test_split_is_never_read(tmp_path, tiny_llm, monkeypatch):
    # Statistics of the data say when the targets of the test came, and nothing else of them.
    monkeypatch.setattr(Dataset, "_same_shares", {})
    read: list[str] = []
    for name in ("history", "histories", "targets", "every_target"):
        inner = getattr(Split, name)

        def noting(self, *args, inner=inner, **given):
            read.extend(str(value) for value in (*args, *given.values()) if value in ("valid", "test"))
            return inner(self, *args, **given)

        monkeypatch.setattr(Split, name, noting)
    assert tuned(tmp_path, tiny_llm, "--trials", "2") == 0
    assert set(read) == {"valid"}


def test_trials_are_in_the_table_the_default_first(studied):
    table = pd.read_csv(studied / "tables" / "tune.csv")
    assert table["trial"].tolist() == [0, 1, 2] and set(table["method"]) == {"title"}
    assert {part.name for part in LLM_SPACE} <= set(table.columns)
    first = table.iloc[0]
    assert (first["learning_rate"], first["hidden"], first["dropout"]) == (1e-3, 512, 0)
    assert table.loc[table["state"] == "complete", "valid_ndcg@10"].between(0, 1).all()
    assert (table["seconds"] > 0).all()


def test_a_study_goes_on_where_it_stopped(studied, tiny_llm, capsys):
    before = pd.read_csv(studied / "tables" / "tune.csv")
    assert tuned(studied, tiny_llm, "--trials", "4") == 0
    after = pd.read_csv(studied / "tables" / "tune.csv")
    assert len(after) == 4
    pd.testing.assert_frame_equal(after.iloc[:3][before.columns], before)
    assert tuned(studied, tiny_llm, "--trials", "4") == 0
    pd.testing.assert_frame_equal(pd.read_csv(studied / "tables" / "tune.csv"), after)


def test_what_was_chosen_is_what_tuned_experiments_train(studied, tiny_llm):
    (file,) = (studied / "store" / "tuned").iterdir()
    found = json.loads(file.read_text())
    arguments = [
        *SMALL,
        "--llm",
        str(tiny_llm),
        "--out",
        str(studied),
        "--methods",
        "title",
        "--features",
        "text",
    ]
    # The search is that of the first seed, for all of them.
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--tuned", "--seeds", "0,1"]) == 0
    record, other = sorted(Store(studied).records("accuracy"), key=lambda record: record.seed)
    assert (record.seed, other.seed) == (0, 1) and record.config["training"] == other.config["training"]
    assert record.config["tuned"] == other.config["tuned"] == found["study"]
    training = record.config["training"]
    assert training["strategy"] == "cached" and training["loss"] == found["parameters"]["loss"]
    for name in ("learning_rate", "weight_decay", "dropout", "temperature", "together"):
        assert training["cached"][name] == found["parameters"][name]
    assert record.config.get("hidden", 512) == found["parameters"]["hidden"]
    assert record.config["history_length"] == found["parameters"]["history_length"]
    assert found["valid_ndcg10"] == pytest.approx(record.results["training"]["valid_ndcg@10"], abs=0.03)


def test_a_study_of_something_else_is_refused(studied, tiny_llm, capsys):
    arguments = ["--trials", "3", "--negatives", "25"]
    assert tuned(studied, tiny_llm, *arguments) == 2
    error = capsys.readouterr().err
    assert "error: study 'toyshop" in error and "it is of another negatives (20, and here it is 25)" in error
    assert error.count("error: ") == 1


def test_tuned_without_a_study_names_the_command(tmp_path, tiny_llm, capsys):
    arguments = [
        *SMALL,
        "--llm",
        str(tiny_llm),
        "--out",
        str(tmp_path),
        "--methods",
        "title",
        "--features",
        "text",
    ]
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--tuned"]) == 2
    assert "python -m bench.tune --methods title" in capsys.readouterr().err


def test_tuned_with_other_features_than_the_study_names_both(tmp_path, tiny_llm, capsys, monkeypatch):
    put_noise(monkeypatch)
    assert tuned(tmp_path, tiny_llm, "--trials", "1") == 0
    shared = [*SMALL, "--llm", str(tiny_llm), "--out", str(tmp_path), "--methods", "title"]
    asked = [*shared, "--features", "image,text"]
    assert run(comparison.main, prog="bench.comparison", args=[*asked, "--tuned"]) == 2
    assert (
        "error: --tuned: a study of title is stored with --features text; give that here, or run python -m bench.tune "
        "--methods title --features image,text with the other options the same"
    ) in capsys.readouterr().err
    # Both remedies work.
    assert run(comparison.main, prog="bench.comparison", args=[*shared, "--features", "text", "--tuned"]) == 0
    assert tuned(tmp_path, tiny_llm, "--trials", "1", "--features", "image,text") == 0
    assert run(comparison.main, prog="bench.comparison", args=[*asked, "--tuned"]) == 0
    # Another choice of more than one option.
    other = [*asked, "--tuned", "--seeds", "3", "--instruction", "after"]
    assert run(comparison.main, prog="bench.comparison", args=other) == 2
    assert "stored with --seed" in (error := capsys.readouterr().err) and "--instruction before" in error
    assert "give these here" in error and "--instruction after" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--methods", "popularity"], "it has nothing to search"),
        (["--methods", ""], "--methods: give at least one"),
        (["--trials", "0"], "--trials 0"),
        (["--minutes", "-1"], "--minutes -1"),
        (["--storage", "mysql://nowhere/none"], "--storage mysql://nowhere/none: cannot be reached"),
    ],
)
def test_bad_input_is_one_line(arguments, expected, tmp_path, tiny_llm, capsys):
    assert tuned(tmp_path, tiny_llm, *arguments) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and expected in error[0]


def test_a_search_has_its_defaults_in_its_space(tiny_llm):
    pytest.importorskip("recbole")
    settings = Settings(
        preset="smoke", users=40, items=40, min_interactions=1, llm=str(tiny_llm), history_length=7
    ).resolved()
    workspace = Workspace(settings)
    without_loss = tuple(part for part in RECBOLE_SPACE if part.name != "loss")
    for method, space in (
        ("title", LLM_SPACE),
        ("sasrec", RECBOLE_SPACE),
        ("gru4rec", RECBOLE_SPACE),
        ("bert4rec", (*without_loss, *OWN_SPACES["bert4rec"])),
        ("esasrec", (*without_loss, *OWN_SPACES["esasrec"])),
    ):
        search = search_of(workspace, method, features=("text",), seed=0)
        assert [part.name for part in search.space] == [part.name for part in space]
        for part in search.space:
            value = search.defaults[part.name]
            inside = value in part.values if isinstance(part, Choice) else part.low <= value <= part.high
            assert inside, (method, part.name, value)
    assert study_key(search_of(workspace, "title", features=("text",), seed=0).identity) != study_key(
        search_of(workspace, "title", features=("text",), seed=1).identity
    )
    # A strategy that is asked for stays what it is: bench.training_strategy --tuned compares strategies.
    frozen = accuracy_cell(
        workspace,
        "title",
        seed=0,
        training=TrainingOptions(),
        parameters={"learning_rate": 2e-3, "hidden": 256},
    )
    assert frozen.config["training"] == TrainingOptions().described() and frozen.config["hidden"] == 256
    plain = accuracy_cell(workspace, "sasrec", seed=0)
    assert accuracy_cell(workspace, "sasrec", seed=0, parameters={"hidden_size": 32}).key != plain.key


def test_parameters_of_the_model_are_no_training_options():
    options = TrainingOptions(strategy="cached")
    changed = with_parameters(
        options, {"hidden": 256, "learning_rate": 2e-3, "loss": "ce", "readout": "last"}
    )
    assert changed.loss == "ce" and changed.cached.learning_rate == 2e-3
    assert with_parameters(options, {}) == options
    (choice,) = widened((Choice(name="a", values=(1, 2)),), {"a": 3})
    assert choice.values == (1, 2, 3)


def test_a_pruned_trial_is_never_the_best():
    trials = [
        {"number": n, "state": state, "seconds": 1.0, "value": value, "parameters": {"a": n}}
        for n, (state, value) in enumerate(
            [("pruned", 0.9), ("complete", 0.2), ("fail", None), ("complete", 0.3)]
        )
    ]
    table = trials_frame("d", "m", trials)
    assert table["best_so_far"].tolist()[1:] == [0.2, 0.2, 0.3] and pd.isna(table["best_so_far"][0])


def test_a_damaged_choice_is_named(tmp_path):
    identity = {"method": "m", "data": "d"}
    chosen = Tuned(
        study=study_key(identity), method="m", parameters={"a": 1}, valid_ndcg10=0.5, default_ndcg10=None,
        trials=3, seconds=1.0,
    )  # fmt: skip
    chosen.write(tmp_path)
    assert Tuned.read(tmp_path, identity) == chosen
    (file,) = (tmp_path / "store" / "tuned").iterdir()
    assert file.stem == chosen.study
    whole = file.read_text()
    for damaged in ("{", whole.replace("0.5", "0.7"), whole.replace('"a": 1', '"a": 3'), whole[:-20]):
        file.write_text(damaged)
        with pytest.raises(InputError, match=f"{file}: damaged .*; run python -m bench.tune again"):
            Tuned.read(tmp_path, identity)
    plain = {**json.loads(whole)}
    del plain["checksum"]  # as an earlier version wrote it
    file.write_text(json.dumps(plain))
    assert Tuned.read(tmp_path, identity) == chosen


def test_a_trial_is_never_another_than_was_told(tmp_path):
    pytest.importorskip("optuna")
    path = tmp_path / "studies.journal"
    logs = [{"op_code": 6, "trial_id": number, "values": [number / 8]} for number in range(4)]
    StudyJournal(path).append_logs(logs)
    assert list(StudyJournal(path).read_logs(0)) == logs
    whole = path.read_bytes()
    for place in range(0, whole.rfind(b"\n", 0, -1), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=f"{path}: damaged") as caught:
            list(StudyJournal(path).read_logs(0))
        assert "\n" not in str(caught.value)
    path.write_bytes(whole[:-5])  # a killed run: the last line is told anew, behind the others
    StudyJournal(path).append_logs(logs[-1:])
    assert list(StudyJournal(path).read_logs(0)) == logs
    path.write_text("".join(json.dumps(log) + "\n" for log in logs))  # as an earlier version wrote it
    assert list(StudyJournal(path).read_logs(0)) == logs


@pytest.mark.parametrize("failing", [("parameters",), ("end",), ("parameters", "end")], ids=" and ".join)
def test_a_disk_that_is_full_during_a_trial_is_one_line(failing, tmp_path, tiny_llm, capsys, monkeypatch):
    """Also where it is the end of the trial that cannot be written."""
    inner = StudyJournal.append_logs
    ended = [state.value for state in optuna.trial.TrialState if state.is_finished()]

    def full(self, logs):
        parts = {"parameters": any("param_name" in log for log in logs)}
        parts["end"] = any(log.get("state") in ended for log in logs)
        if any(parts[part] for part in failing):
            raise InputError("cannot write studies.journal: No space left on device")
        inner(self, logs)

    monkeypatch.setattr(StudyJournal, "append_logs", full)
    arguments = [
        *SMALL,
        "--methods",
        "item-knn",
        "--trials",
        "2",
        "--llm",
        str(tiny_llm),
        "--out",
        str(tmp_path),
    ]
    assert run(tune.main, prog="bench.tune", args=arguments) == 2
    said = capsys.readouterr().err
    assert "error: cannot write studies.journal" in said and "Traceback" not in said
    monkeypatch.setattr(StudyJournal, "append_logs", inner)
    assert run(tune.main, prog="bench.tune", args=arguments) == 0
    assert len(pd.read_csv(tmp_path / "tables" / "tune.csv")) == 2


def test_a_study_is_the_same_whichever_targets_are_tested(tmp_path, tiny_llm):
    def of(**changes) -> Workspace:
        given = {"preset": "smoke", "users": 60, "items": 60, "min_interactions": 1, "layers": 2}
        settings = Settings(**given, llm=str(tiny_llm), out=tmp_path, split="global-time", **changes)
        return Workspace(settings.resolved())

    day, following = of(test_targets="day"), of()
    searches = [search_of(place, "title", features=("text",), seed=0) for place in (day, following)]
    assert study_key(searches[0].identity) == study_key(searches[1].identity)
    cells = [accuracy_cell(place, "title", seed=0, features=("text",)) for place in (day, following)]
    assert cells[0].key != cells[1].key and "test_targets" not in cells[1].config["evaluation"]
    store = Store(tmp_path)
    assert model_folder(store, cells[0]) == model_folder(store, cells[1])
    changed = day.derive(variant={"kind": "none", "of": day.dataset.fingerprint})
    same = following.derive(variant={"kind": "none", "of": following.dataset.fingerprint})
    folders = {model_folder(store, accuracy_cell(place, "title", seed=0)) for place in (changed, same)}
    assert len(folders) == 1
