"""Top-k against a brute-force sort, and every kind of index against the exact one."""

from __future__ import annotations

import builtins
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError
from illmrec.model.backbone import load_backbone
from illmrec.model.illmrec import ILLMRec
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.segments import ImageRepresentation
from illmrec.prompts.tokens import tokenise_items
from illmrec.recommender import Recommender
from illmrec.retrieval import INDEX_KINDS, IndexOptions, build_index, exact_top_k, load_index
from illmrec.retrieval.exact import first_largest

APPROXIMATE = {"hnsw": 0.95, "ivfpq": 0.6}


def brute_force(users, items, *, k, exclude=None) -> tuple[np.ndarray, np.ndarray]:
    """Sort each user's whole catalogue by (-score, row); -1 and -inf where items run out."""
    scores = users.astype(np.float64) @ items.astype(np.float64).T
    found = np.full((len(users), k), -1, dtype=np.int64)
    values = np.full((len(users), k), -np.inf)
    for user, row in enumerate(scores):
        left = np.setdiff1d(np.arange(len(items)), [] if exclude is None else exclude[user])
        best = left[np.lexsort((left, -row[left]))][:k]
        found[user, : len(best)], values[user, : len(best)] = best, row[best]
    return found, values


@st.composite
def problems(draw):
    """Vectors of small integers: products are exact in float32, so that ties are many and truly ties."""
    n_users, n_items, width = draw(st.integers(0, 9)), draw(st.integers(0, 300)), draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([0, 1, 3]))
    users = generator.integers(-size, size, (n_users, width), endpoint=True).astype(np.float32)
    items = generator.integers(-size, size, (n_items, width), endpoint=True).astype(np.float32)
    longest = draw(st.integers(0, max(0, n_items)))
    exclude = [
        generator.choice(n_items, generator.integers(longest, endpoint=True)) if n_items else np.empty(0, int)
        for _ in range(n_users)
    ]
    return users, items, exclude if draw(st.booleans()) else None


@settings(max_examples=150, deadline=None)
@given(problem=problems(), k=st.integers(1, 400), blocks=st.tuples(st.integers(1, 12), st.integers(1, 400)))
def test_exact_equals_brute_force_whatever_the_blocks(problem, k, blocks):
    users, items, exclude = problem
    found = exact_top_k(
        users, items, k=k, exclude=exclude, users_per_block=blocks[0], items_per_block=blocks[1]
    )
    expected, scores = brute_force(users, items, k=k, exclude=exclude)
    np.testing.assert_array_equal(found.items, expected)
    np.testing.assert_array_equal(found.scores, scores)
    assert found.items.dtype == np.int64 and found.scores.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    values=st.sampled_from([1, 2, 5, 10**6]),
    n_columns=st.sampled_from([1, 63, 64, 1024, 4096, 5000]),
    k=st.integers(1, 70),
)
def test_first_largest_is_a_stable_sort(seed, values, n_columns, k):
    scores = np.random.default_rng(seed).integers(values, size=(3, n_columns)).astype(np.float32)
    scores[0, : n_columns // 2] = -np.inf
    expected = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :k], axis=1)
    np.testing.assert_array_equal(first_largest(torch.from_numpy(scores), k).numpy(), expected)


def test_real_vectors_memory_mapped_and_on_torch(tmp_path):
    generator = np.random.default_rng(0)
    users = generator.normal(size=(40, 48)).astype(np.float32)
    items = generator.normal(size=(5000, 48)).astype(np.float32)
    np.save(tmp_path / "items.npy", items)
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r")
    expected, scores = brute_force(users, items, k=20)
    for given_users, given_items in (
        (users, mapped),
        (torch.from_numpy(users), torch.from_numpy(items)),
        (users.astype(np.float64), items[::-1][::-1]),
    ):
        found = exact_top_k(given_users, given_items, k=20, items_per_block=777, users_per_block=7)
        np.testing.assert_array_equal(found.items, expected)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)


def test_equal_items_at_the_edge_of_a_block_are_ties():
    generator = np.random.default_rng(1)
    items = np.repeat(generator.normal(size=(1, 256)), 1003, axis=0).astype(np.float32)
    users = generator.normal(size=(5, 256)).astype(np.float32)
    for items_per_block in (64, 100, 1000, 2000):
        found = exact_top_k(users, items, k=7, items_per_block=items_per_block)
        assert (found.items == np.arange(7)).all(), items_per_block


def test_memory_does_not_grow_with_the_catalogue(tmp_path, monkeypatch):
    """No tensor that is made on the way is as large as all scores, or as the catalogue."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel() * tensor.element_size())
            return out

    np.save(tmp_path / "items.npy", np.random.default_rng(2).normal(size=(20_000, 8)).astype(np.float32))
    items = np.load(tmp_path / "items.npy", mmap_mode="r")
    with Watch():
        exact_top_k(np.ones((300, 8)), items, k=5, users_per_block=32, items_per_block=512)
    assert 32 * 512 * 4 <= largest <= 2 * 32 * 512 * 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"k": 0}, "k 0"),
        ({"items_per_block": 0}, "items_per_block 0"),
        ({"users": np.ones(3)}, r"users: shape \[3\]"),
        ({"users": np.ones((2, 5))}, "users are 5 wide and items 3"),
        ({"users": np.array([[0, 0, 0], [0, np.nan, 0]])}, "users: row 1 is not finite"),
        ({"items": np.where(np.arange(12).reshape(4, 3) == 8, np.inf, 1.0)}, "items: row 2 is not finite"),
        ({"users": np.full((2, 3), 1e30), "items": np.full((4, 3), 1e30)}, "a score is not finite"),
        ({"exclude": [np.array([0])]}, "1 lists for 2 users"),
        ({"exclude": [[0], [4]]}, "row 4 of user 1"),
        ({"exclude": [[-1], [0]]}, "row -1 of user 0"),
        ({"exclude": [[], [True, False, True, False]]}, "user 1 has bool"),
        ({"exclude": [[0.5], []]}, "user 0 has float64"),
    ],
)
def test_bad_input_is_one_line(change, expected):
    arguments = {"users": np.ones((2, 3)), "items": np.ones((4, 3)), "k": 2, **change}
    with pytest.raises(InputError, match=expected) as error:
        exact_top_k(arguments.pop("users"), arguments.pop("items"), **arguments)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray]:
    """Users and items around 100 centres, float32 [50, 32] and [12000, 32]."""
    generator = np.random.default_rng(3)
    centres = generator.normal(size=(100, 32))
    items = centres[generator.integers(100, size=12_000)] + 0.4 * generator.normal(size=(12_000, 32))
    users = centres[generator.integers(100, size=50)] + 0.4 * generator.normal(size=(50, 32))
    return users.astype(np.float32), items.astype(np.float32)


@pytest.fixture(scope="module")
def indexes(clustered):
    pytest.importorskip("faiss")
    return {
        kind: build_index(clustered[1], kind=kind, options=IndexOptions(code_bytes=16))
        for kind in INDEX_KINDS
    }


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, expected, strict=True)]))


def test_flat_equals_exact_with_and_without_exclusions(clustered, indexes):
    users, items = clustered
    histories = [np.random.default_rng(user).choice(len(items), user) for user in range(len(users))]
    # Exclude what would be found, too.
    best = exact_top_k(users, items, k=3).items
    exclude = [np.concatenate(pair) for pair in zip(histories, best, strict=True)]
    for excluded in (None, exclude):
        exact = indexes["exact"].search(users, k=10, exclude=excluded)
        flat = indexes["flat"].search(torch.from_numpy(users), k=10, exclude=excluded)
        np.testing.assert_array_equal(flat.items, exact.items)
        np.testing.assert_allclose(flat.scores, exact.scores, rtol=1e-5)


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_approximate_kinds_find_most_and_never_what_is_excluded(clustered, indexes, kind):
    users, items = clustered
    index = indexes[kind]
    expected = exact_top_k(users, items, k=10)
    found = index.search(users, k=10)
    assert recall(found.items, expected.items) >= APPROXIMATE[kind]
    assert (np.diff(found.scores, axis=1) <= 0).all()
    if kind == "hnsw":
        products = np.einsum("ud,ukd->uk", users, items[found.items])
        np.testing.assert_allclose(found.scores, products, rtol=1e-4)
    without = index.search(users, k=10, exclude=list(expected.items))
    assert not (without.items[:, :, None] == expected.items[:, None, :]).any()
    assert (without.items >= 0).all()
    assert all(len(set(row)) == 10 for row in without.items.tolist())


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_more_effort_finds_more(clustered, indexes, kind):
    users, items = clustered
    expected = exact_top_k(users, items, k=10).items
    little, much = (indexes[kind].search(users, k=10, effort=effort).items for effort in (1, 400))
    assert recall(little, expected) < recall(much, expected)


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_an_index_is_the_same_after_loading(clustered, indexes, kind, tmp_path):
    users, _ = clustered
    indexes[kind].save(tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    before, after = indexes[kind].search(users, k=5), loaded.search(users, k=5)
    np.testing.assert_array_equal(after.items, before.items)
    np.testing.assert_array_equal(after.scores, before.scores)
    assert loaded.kind == kind and loaded.memory_bytes == indexes[kind].memory_bytes


def test_memory_of_the_kinds(clustered, indexes):
    vectors = clustered[1].nbytes
    size = {kind: indexes[kind].memory_bytes for kind in INDEX_KINDS}
    assert size["exact"] == vectors
    assert vectors <= size["flat"] <= 1.01 * vectors
    links = 8 * IndexOptions().links * len(clustered[1])
    assert vectors + 0.9 * links <= size["hnsw"] <= vectors + 1.3 * links
    assert size["ivfpq"] < vectors / 3


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_catalogue_smaller_than_k(kind):
    pytest.importorskip("faiss")
    items = np.eye(4, dtype=np.float32)
    found = build_index(items, kind=kind).search(items[:1], k=6, exclude=[[0]])
    np.testing.assert_array_equal(found.items, [[1, 2, 3, -1, -1, -1]])
    np.testing.assert_array_equal(found.scores, [[0, 0, 0, *[-np.inf] * 3]])


def test_the_seed_decides_how_codes_are_trained(clustered):
    pytest.importorskip("faiss")
    users, items = clustered

    def scores(seed: int) -> np.ndarray:
        return (
            build_index(items, kind="ivfpq", options=IndexOptions(seed=seed, lists=16, code_bytes=1))
            .search(users, k=5)
            .scores
        )

    np.testing.assert_array_equal(scores(1), scores(1))
    assert not np.array_equal(scores(1), scores(2))


def test_bad_input_of_an_index(clustered, indexes, tmp_path):
    users, items = clustered
    for index, arguments, expected in (
        ("exact", {"effort": 3}, "leave effort out"),
        ("flat", {"effort": 3}, "leave effort out"),
        ("hnsw", {"effort": 0}, "effort 0"),
        ("hnsw", {"k": 0}, "k 0"),
        ("flat", {"exclude": [[0]]}, "1 lists for 50 users"),
        ("flat", {"users": users[:, :5]}, "users are 5 wide and items 32"),
        ("flat", {"users": users * np.nan}, "not finite"),
    ):
        with pytest.raises(InputError, match=expected):
            indexes[index].search(**{"users": users, "k": 5, **arguments})
    broken = items.copy()
    broken[7, 0] = np.nan
    for arguments, expected in (
        ({"kind": "hsnw"}, "did you mean 'hnsw'"),
        ({"items": items[0]}, r"items: shape \[32\]"),
        ({"items": items[:0]}, "at least one item"),
        ({"items": items[:100], "kind": "ivfpq"}, "100 items"),
        ({"items": broken, "kind": "flat"}, "row 7 is not finite"),
        ({"kind": "ivfpq", "options": IndexOptions(code_bytes=5)}, "code_bytes 5 must divide the width 32"),
    ):
        with pytest.raises(InputError, match=expected):
            build_index(**{"items": items, **arguments})
    with pytest.raises(InputError, match="links 0"):
        IndexOptions(links=0)


def test_a_damaged_index_is_named(tmp_path):
    pytest.importorskip("faiss")
    with pytest.raises(InputError, match="holds no whole index"):
        load_index(tmp_path)
    folder = tmp_path / "index"
    build_index(np.eye(4), kind="flat").save(folder)
    whole = (folder / "index.faiss").read_bytes()
    (folder / "index.faiss").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"index\.faiss: damaged .*; build and save the index again"):
        load_index(folder)
    (folder / "checksums.json").unlink()  # as of an earlier version
    (folder / "index.faiss").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="holds no whole index"):
        load_index(folder)
    (folder / "index.faiss").write_bytes(whole)
    described = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**described, "items": 5}))
    with pytest.raises(InputError, match="4 items of width 4"):
        load_index(folder)


@pytest.mark.parametrize("values", [np.full((4, 4), b"x"), np.zeros((4, 4), dtype=complex)])
def test_an_index_of_other_than_numbers_is_named(values, tmp_path):
    build_index(np.eye(4), kind="exact").save(tmp_path / "index")
    np.save(tmp_path / "index" / "items.npy", values)
    (tmp_path / "index" / "checksums.json").unlink()
    with pytest.raises(InputError, match=r"holds no whole index .*vectors of type"):
        load_index(tmp_path / "index")


def test_a_recommender_gives_the_best_of_all_scores(tiny_llm):
    generator = np.random.default_rng(5)
    titles = [f"red mug {number}" for number in range(30)]
    items = pd.DataFrame(
        {"item_id": [f"i{row}" for row in range(30)], "title": titles, "description": titles}
    )
    backbone = load_backbone(str(tiny_llm), layers=1, dtype="float32")
    present = {"image": np.ones(30, dtype=bool)}
    tokenised = tokenise_items(items, ImageRepresentation(), backbone.tokenizer, present=present)
    model = ILLMRec(
        backbone=backbone,
        prompts=PromptBuilder(items=tokenised, tokenizer=backbone.tokenizer),
        features={name: generator.normal(size=(30, 12)).astype(np.float32) for name in ("image", "cf")},
        heads=("image", "cf"),
        history_length=3,
    )
    dataset = Dataset(
        name="tiny",
        items=items,
        user_ids=np.array([], dtype=object),
        sequence_items=np.array([], dtype=np.int32),
        offsets=np.array([0]),
        images=None,
        fingerprint="0" * 16,
        dropped={},
    )
    recommender = Recommender(model=model.eval(), dataset=dataset)
    history = np.array([3, 17, 5, 8])
    scores = model.score([history])[0]
    for repeats, left in ((True, np.arange(30)), (False, np.setdiff1d(np.arange(30), history))):
        order = left[np.argsort(-scores[left], kind="stable")]
        for k in (1, 5, 100):
            found = recommender.recommend(items["item_id"].iloc[history].tolist(), k=k, repeats=repeats)
            assert found["item_id"].tolist() == [f"i{row}" for row in order[:k]]
            assert found["title"].tolist() == [titles[row] for row in order[:k]]
            np.testing.assert_allclose(found["score"], scores[order[:k]], rtol=1e-4, atol=1e-5)


def test_without_faiss_exact_works_and_the_others_name_the_extra(monkeypatch):
    real_import = builtins.__import__

    def without_faiss(name, *arguments, **keywords):
        if name == "faiss":
            raise ModuleNotFoundError("No module named 'faiss'", name="faiss")
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    items = np.eye(3, dtype=np.float32)
    assert build_index(items).search(items, k=1).items[:, 0].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r'pip install "illmrec\[faiss\]"'):
        build_index(items, kind="flat")


def test_faiss_takes_the_threads_of_torch():
    faiss = pytest.importorskip("faiss")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        build_index(np.eye(3), kind="flat")
        assert faiss.omp_get_max_threads() == 3
    finally:
        torch.set_num_threads(before)
        faiss.omp_set_num_threads(before)
