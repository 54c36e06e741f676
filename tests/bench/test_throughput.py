"""The paths that the engine is compared with: equal losses, gradients, scores and ranks; then the command itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from bench import throughput
from bench.frames.throughput import COLUMNS, LLAMA_CPP, PHASES
from bench.meters.llama_cpp_path import check_runs, gguf_file
from bench.meters.peer_paths import PaddingFree, SortedTwoPass
from bench.meters.plain_paths import PlainTrainer, ReleasedStyle, TwoPass, write_item_files
from bench.meters.race import Contender, Race, Work, measure
from bench.store.store import Store
from bench.throughput import choose_users, cut_dataset
from illmrec.assembly import ModelConfig, build_model
from illmrec.command_line import run
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import Dataset
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.features.table import FeatureTable
from illmrec.model.backbone import load_backbone
from illmrec.model.cost import forward_flops, training_flops
from illmrec.model.engine import Engine
from illmrec.ranking import target_ranks
from illmrec.training import Trainer, TrainingOptions

N_ITEMS, N_USERS = 60, 13
OPTIONS = TrainingOptions(
    loss="bce", batch_size=N_USERS, validation_users=0, answer_tokens=12, token_budget=500
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    generator = np.random.default_rng(3)
    words = np.array(["red", "blue", "green", "mug", "lamp", "shoe", "plain", "dots"])
    text = [" ".join(generator.choice(words, generator.integers(1, 6))) for _ in range(N_ITEMS)]
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)], "title": text})
    items = items.assign(brand="", category=text, description=text, summary=text)
    lengths = np.linspace(5, 25, N_USERS).astype(int)
    return Dataset(
        name="tiny",
        items=items,
        user_ids=np.array([f"u{u}" for u in range(N_USERS)], dtype=object),
        sequence_items=np.concatenate([generator.permutation(N_ITEMS)[:n] for n in lengths]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        images=None,
        fingerprint="0" * 16,
        dropped={},
    )


@pytest.fixture(scope="module", params=["after", "before"])
def model(request, dataset, tiny_llm):
    generator = np.random.default_rng(1)
    features = {
        name: FeatureTable(
            values=generator.normal(size=(N_ITEMS, width)).astype(np.float32),
            present=np.ones(N_ITEMS, dtype=bool),
            key=name,
            meta={},
        )
        for name, width in (("image", 12), ("text", 7))
    }
    return build_model(
        ModelConfig(
            representation="illmrec.prompts.segments:ImageRepresentation",
            heads=("image", "text"),
            hidden=16,
            shared=8,
            instruction=request.param,
            history_length=9,
        ),
        dataset=dataset,
        backbone=load_backbone(str(tiny_llm), dtype="float32"),
        features=features,
        # Items without a picture have no slot: rows differ in how many they hold.
        has_image=generator.random(N_ITEMS) < 0.7,
    )


@pytest.fixture(scope="module")
def released(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    write_item_files(model, folder)
    return ReleasedStyle(model, folder=folder, batch_size=5)


def one_step(trainer: Trainer) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Return the losses and gradients of a trainer's first step, the parameters left as they were."""
    gradients = {}
    trainer.model.zero_grad()
    trainer.optimiser.step = lambda: gradients.update(
        {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    )
    trainer._train_step()
    return dict(trainer._sums), gradients


def plain_paths(model):
    return {
        "two-pass": TwoPass(model, batch_size=4),
        "two-pass-sorted": SortedTwoPass(model, batch_size=4),
        "padding-free": PaddingFree(model, batch_size=4, token_budget=300),
    }


@pytest.mark.parametrize("targets", ["one", "all"])
@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_two_padded_passes_have_the_engines_loss_and_gradients(model, dataset, released, targets, loss):
    arguments = {
        "split": leave_one_out(dataset),
        "options": replace(OPTIONS, targets=targets, loss=loss),
        "seed": 5,
        "negatives": draw_negatives(dataset, seed=0, n=20),
        "progress": False,
    }
    expected, expected_gradients = one_step(Trainer(model=model, **arguments))
    assert set(expected) == {"reri", "risa"} and min(expected.values()) > 0
    for path in (*plain_paths(model).values(), released):
        losses, gradients = one_step(PlainTrainer(path, **arguments))
        assert losses == pytest.approx(expected, abs=1e-4)
        assert gradients.keys() == dict(model.named_parameters()).keys()
        for name, gradient in gradients.items():
            assert expected_gradients[name].abs().max() > 0, name
            torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-4, rtol=1e-4, msg=name)


def test_all_paths_rank_the_same(model, dataset, released):
    split = leave_one_out(dataset)
    histories, targets = split.histories("test"), split.targets("test")
    candidates = np.concatenate([targets[:, None], draw_negatives(dataset, seed=1, n=30)], axis=1)
    catalogue = model.catalogue()
    engine = np.take_along_axis(model.score(histories, catalogue=catalogue), candidates, axis=1)
    assert engine.std() > 0.01
    plain = {
        name: path.score(histories, candidates, catalogue=catalogue)
        for name, path in plain_paths(model).items()
    }
    for path, scores in {**plain, "released-style": released.score(histories, candidates)}.items():
        assert scores.dtype == np.float32 and scores.shape == engine.shape
        np.testing.assert_allclose(scores, engine, atol=1e-4, err_msg=path)
        columns = np.zeros(len(targets), dtype=np.int64)
        every = np.tile(np.arange(candidates.shape[1]), (len(targets), 1))
        ranks = target_ranks(scores, columns, candidates=every)
        assert ranks.tolist() == target_ranks(engine, columns, candidates=every).tolist()


def test_padding_is_counted_and_no_prompt_is_longer_than_the_engines(model, dataset):
    histories = leave_one_out(dataset).histories("test")
    fitted = [model.prompts.fit(history, max_items=model.history_length) for history in histories]
    lengths = model.prompts.token_counts(fitted)
    path = TwoPass(model, batch_size=len(histories))
    path.score(histories, np.zeros((len(histories), 1), dtype=np.int64), catalogue=model.catalogue())
    assert path.tokens == len(histories) * lengths.max() > lengths.sum()
    for history, length in zip(fitted, lengths, strict=True):
        assert len(path.trunk(history)) + len(model.prompts.instruction) + 1 == length


def make_race(model, dataset, folder, *, lengths=(1, 3, 5)):
    """Return a race over three users, each with so many items of history."""
    users = np.array([10, 11, 12])
    return Race(
        model=model,
        split=leave_one_out(cut_dataset(dataset, users, lengths)),
        lengths=lengths,
        negatives=draw_negatives(dataset, seed=0, n=20)[users],
        options=replace(OPTIONS, batch_size=2),
        folder=folder,
    )


def test_users_are_drawn_for_evenly_spread_lengths_and_cut_to_their_last_interactions(dataset):
    users, lengths = choose_users(dataset, 4)
    assert lengths == [2, 8, 14, 20] and len(set(users)) == 4
    cut = cut_dataset(dataset, users, lengths)
    split = leave_one_out(cut)
    for row, (user, length) in enumerate(zip(users, lengths, strict=True)):
        assert cut.user_ids[row] == dataset.user_ids[user]
        assert cut.sequence(row).tolist() == dataset.sequence(int(user))[-length - 3 :].tolist()
        assert len(split.train(row)) == length + 1
    with pytest.raises(InputError, match="--timed-users 14: too few users"):
        choose_users(dataset, 14)


@pytest.mark.parametrize(("phase", "samples"), [("train-one", 3), ("train-all", 9), ("inference", 3)])
def test_all_paths_of_a_phase_do_the_same_work_again_and_again(model, dataset, released, phase, samples):
    race = make_race(model, dataset, released.folder)
    paths = [path for path in PHASES[phase] if path != LLAMA_CPP]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    contenders, work = race.contenders(phase, paths)
    assert [contender.path for contender in contenders] == paths
    assert work.samples == samples
    checks = []
    for contender in contenders:
        for _ in range(2):
            contender.reset()
            checks.append(contender.call())
        if contender.tokens is not None:
            assert contender.tokens() >= 2 * work.tokens
        contender.reset()
    assert checks == pytest.approx([checks[0]] * len(checks), abs=1e-4)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_useful_work_is_what_the_engine_runs(model, dataset, released, monkeypatch):
    run = []
    hidden = Engine.hidden

    def recorded(self, packed, **arguments):
        count = training_flops if torch.is_grad_enabled() else forward_flops
        run.append((packed.tokens, count(self.backbone, packed)))
        return hidden(self, packed, **arguments)

    monkeypatch.setattr(Engine, "hidden", recorded)
    race = make_race(model, dataset, released.folder)
    for phase in ("train-one", "train-all", "inference"):
        run.clear()
        (engine,), work = race.contenders(phase, ["engine"])
        engine.call()
        engine.reset()
        assert work.tokens == sum(tokens for tokens, _ in run)
        assert work.gflops == pytest.approx(sum(flops for _, flops in run) / 1e9)


class NoLlama:
    """Notes what it is given, in place of ``llama_cpp.Llama``."""

    made: ClassVar[list[NoLlama]] = []

    def __init__(self, **options) -> None:
        self.options, self.n_tokens, self.cache = options, 0, []
        self.prompts: list[list[int]] = []
        self.made.append(self)

    def reset(self) -> None:
        self.n_tokens = 0

    def eval(self, tokens: list[int]) -> None:
        self.cache = [*self.cache[: self.n_tokens], *tokens]
        self.n_tokens = len(self.cache)
        assert self.n_tokens <= self.options["n_ctx"]
        self.prompts.append(self.cache)


def test_llama_cpp_runs_the_prompts_of_the_engine(model, dataset, released, monkeypatch, tmp_path):
    module = ModuleType("llama_cpp")
    module.Llama, module.__spec__ = NoLlama, ModuleSpec("llama_cpp", None)
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    with pytest.raises(InputError, match="no GGUF file"):
        gguf_file(model.engine.backbone)
    monkeypatch.setattr("bench.meters.race.gguf_file", lambda backbone: tmp_path / "some.gguf")
    NoLlama.made.clear()
    race = make_race(model, dataset, released.folder)
    (path,), work = race.contenders("inference", [LLAMA_CPP])
    assert path.call() is None and path.tokens() == work.tokens
    (llama,) = NoLlama.made
    assert llama.options["model_path"] == str(tmp_path / "some.gguf")
    assert llama.options["n_threads"] == torch.get_num_threads() and not llama.options["logits_all"]
    prefix, *prompts = llama.prompts
    plain = TwoPass(model, batch_size=1)
    for prompt, history in zip(prompts, race._histories(), strict=True):
        trunk = plain.trunk(model.prompts.fit(history, max_items=model.history_length))
        assert prompt == [*np.maximum(trunk, 0), *model.prompts.instruction, 0]
        assert prompt[: len(prefix)] == prefix and len(prefix) > 1
    path.call()
    assert len(llama.prompts) == 1 + 2 * len(prompts), "the prefix is run once"


def test_llama_cpp_is_left_out_where_it_is_not_installed(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="llama-cpp-python is not installed"):
        gguf_file(model.engine.backbone)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11"),
        ("raise OSError('cannot open it')", "cannot open it"),
    ],
)
def test_a_llama_cpp_that_does_not_run_here_ends_no_benchmark(tmp_path, monkeypatch, code, said):
    (tmp_path / "llama_cpp.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError, match=f"does not run here .*{said}.*GGML_NATIVE=OFF"):
        check_runs(tmp_path / "some.gguf")


def timed(model, calls, *, repeats=3, path_seconds=1e9):
    """Measure two paths that only note that they were called."""
    contenders = [
        Contender(path=path, call=lambda p=path: calls.append(p) or 1.0, reset=lambda: None)
        for path in ("two-pass", "engine")
    ]
    return measure(
        contenders,
        Work(samples=6, tokens=60, gflops=2.0),
        phase="train-one",
        users=3,
        repeats=repeats,
        path_seconds=path_seconds,
        model=model,
        peak_gflops=100.0,
        progress=False,
    )


def test_paths_take_turns_after_a_first_run_that_is_not_counted(model):
    calls: list[str] = []
    outcomes = timed(model, calls)
    one, two = "two-pass", "engine"
    assert calls == [one, two, one, two, two, one, one, two]
    for path, outcome in outcomes.items():
        results, timings = outcome.results, outcome.frames["timings"]
        assert results["path"] == path and len(timings) == results["repeats"] == 3
        median = timings["seconds"].median()
        assert results["seconds_median"] == median
        assert results["samples_per_second"] == pytest.approx(6 / median)
        assert results["tokens_per_second"] == pytest.approx(60 / median)
        assert results["utilisation"] == pytest.approx(2 / median / 100)
        assert results["peak_memory_mb"] == timings["peak_mb"].max() > 0
        other = outcomes["two-pass"].frames["timings"]["seconds"].median()
        assert results["speedup_vs_two_pass"] == pytest.approx(other / median)


def test_slow_paths_are_run_less_often(model, monkeypatch):
    calls: list[str] = []
    outcomes = timed(model, calls, path_seconds=1e-12)
    assert calls == ["two-pass", "engine"] * 2 and outcomes["engine"].results["repeats"] == 1
    monkeypatch.setattr("bench.meters.race.SLOW_SECONDS", 0.0)
    calls.clear()
    outcomes = timed(model, calls, path_seconds=1e-12)
    assert calls == ["two-pass", "engine"] and outcomes["two-pass"].results["repeats"] == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--paths", "two-passes"], "did you mean 'two-pass'"),
        (["--phases", "inferense"], "did you mean 'inference'"),
        (["--phases", ""], "--phases"),
        (["--paths", "released-style", "--phases", "train-all"], "released-style has no such phase"),
        (["--loss", "ce"], "--loss ce"),
        (["--repeats", "0"], "--repeats"),
        (["--timed-users", "500"], "--timed-users 500"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, expected, tmp_path, capsys):
    common = ["--preset", "smoke", "--no-report", "--out", str(tmp_path / "out")]
    assert run(throughput.main, prog="bench.throughput", args=[*common, *arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0]


@pytest.mark.slow
def test_the_command_measures_each_path_and_phase_once(tmp_path, tiny_llm):
    arguments = ["--preset", "smoke", "--no-progress", "--no-report", "--out", str(tmp_path)]
    arguments += ["--llm", str(tiny_llm), "--layers", "2"]
    arguments += ["--timed-users", "2", "--repeats", "1"]
    assert run(throughput.main, prog="bench.throughput", args=arguments) == 0
    table = pd.read_csv(tmp_path / "tables" / "throughput.csv")
    assert tuple(table.columns) == COLUMNS
    rows = list(table[["phase", "path"]].itertuples(index=False, name=None))
    # The smoke preset cuts blocks off, which llama.cpp cannot.
    expected = [(phase, path) for phase, paths in PHASES.items() for path in paths if path != LLAMA_CPP]
    assert rows == expected
    assert (table["users"] == 2).all() and table["utilisation"].between(0, 1.5).all()
    assert (table.loc[table["path"] == "two-pass", "speedup_vs_two_pass"] == 1).all()
    records = Store(tmp_path).records("throughput")
    (share,) = [r.results["scoring_share"] for r in records if "scoring_share" in r.results]
    assert 0 < share < 1
    for phase in ("train-one", "train-all"):
        losses = [r.results["loss"] for r in records if r.results["phase"] == phase]
        assert losses == pytest.approx([losses[0]] * len(losses), rel=0.02)  # bfloat16
    created = {record.key: record.created for record in records}
    assert run(throughput.main, prog="bench.throughput", args=arguments) == 0
    assert {record.key: record.created for record in Store(tmp_path).records("throughput")} == created
