"""Commands, cleaning of texts, and exports that others' tools read: the same split and the same candidates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from publishers import write_amazon18, write_hm

from illmrec.data import load_dataset
from illmrec.data.__main__ import COMMANDS, main
from illmrec.data.candidates import draw_negatives
from illmrec.data.exports.hugging_face import export_hugging_face
from illmrec.data.exports.recbole import export_recbole
from illmrec.data.sources.cleaning import boilerplate, clean_texts, entities, shortened, tags, whitespace
from illmrec.data.sources.places import built_folder
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError


@pytest.mark.parametrize(
    ("function", "before", "after"),
    [
        (entities, "Salt &amp; pepper &amp;quot;set&amp;quot;", 'Salt & pepper "set"'),
        (entities, "AT&T; 5 < 6", "AT&T; 5 < 6"),
        (tags, "<p>One</p><br/>two <b>bold</b>word", " One  two boldword"),
        (tags, "a<script type='x'>var b = '<p>';</script>c<!-- <b> -->d", "a c d"),
        (tags, "5 < 6 and 7 > 6, <3", "5 < 6 and 7 > 6, <3"),
        (boilerplate, "A mug. Read more", "A mug."),
        (boilerplate, "Read more books. Product Description: A mug.", "Read more books.  A mug."),
        (boilerplate, "Click here to see our shop. A mug.", " A mug."),
        (whitespace, "  a\u00a0\t b\n\n\x00c\u200b ", "a b c"),
    ],
)
def test_cleaning_steps(function, before: str, after: str) -> None:
    assert function(before) == after
    assert whitespace(function(function(before))) == whitespace(after)  # twice is once


@pytest.mark.parametrize(
    ("words", "after"), [(2, "one  two"), (3, "one  two three "), (9, "one  two three ")]
)
def test_texts_are_shortened_at_a_word(words: int, after: str) -> None:
    assert shortened("one  two three ", words) == after


def test_cleaning_counts_what_it_changes() -> None:
    items = pd.DataFrame(
        {
            "title": ["A &amp; B", "C"],
            "brand": ["", " x"],
            "category": ["", ""],
            "description": ["&lt;b&gt;x&lt;/b&gt; y z", "w"],
        }
    )
    cleaned, counts = clean_texts(items, ("length", "tags", "entities", "whitespace"), max_words=2)
    assert cleaned["description"].tolist() == ["x y", "w"] and cleaned["title"][0] == "A & B"
    assert counts == {"entities": 2, "tags": 1, "whitespace": 1, "length": 1}
    assert items["title"][0] == "A &amp; B"
    assert clean_texts(items, (), max_words=2)[1] == {}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", place)
        for user in range(9)
        for place, item in enumerate(rng.permutation(8)[:6])
    ]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_parquet(
        folder / "interactions.parquet"
    )
    titles = [f'"Tab\there" {number}' for number in range(8)]
    items = pd.DataFrame({"item_id": [f"i{number}" for number in range(8)], "title": titles})
    items.to_parquet(folder / "items.parquet")
    return load_dataset(f"folder:{folder}", min_interactions=1)


def test_recbole_files_hold_the_split_and_the_candidates(dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_recbole(dataset, out, seed=3, n=2, longest=4, cache=tmp_path)
    name, split = dataset.name, leave_one_out(dataset)
    ids = dataset.items["item_id"].to_numpy()

    def table(part: str) -> pd.DataFrame:
        return pd.read_csv(out / f"{name}.{part}", sep="\t", quoting=3)

    assert table("inter").columns.tolist() == ["user_id:token", "item_id:token", "timestamp:float"]
    assert len(table("inter")) == dataset.n_interactions
    assert table("item")["title:token_seq"].tolist() == [f"'Tab here' {number}" for number in range(8)]
    for part in ("valid", "test"):
        rows = table(f"{part}.inter")
        assert rows["item_id:token"].tolist() == ids[split.targets(part)].tolist()
        expected = [" ".join(ids[history[-4:]]) for history in split.histories(part)]
        assert rows["item_id_list:token_seq"].tolist() == expected
        drawn = pd.read_csv(out / f"candidates.{part}.csv")["candidates"].str.split().tolist()
        assert drawn == ids[draw_negatives(dataset, seed=3, n=2, part=part)].tolist()
    train = table("train.inter")
    assert len(train) == sum(len(split.train(user)) - 1 for user in range(dataset.n_users))
    held_out = set(
        zip(table("test.inter")["user_id:token"], table("test.inter")["item_id:token"], strict=True)
    )
    assert not held_out & set(zip(train["user_id:token"], train["item_id:token"], strict=True))


def test_recbole_cannot_hold_every_id(dataset, tmp_path: Path) -> None:
    from illmrec.data.dataset import changed

    other = changed(dataset, user_ids=np.array(["a b", *dataset.user_ids[1:]], dtype=object))
    with pytest.raises(InputError, match="'a b': atomic files cannot hold"):
        export_recbole(other, tmp_path / "out", seed=0, n=2, cache=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_folder_has_a_card_whose_files_are_there(dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    origin = {"page": "https://shop.example", "licence": "CC BY-SA 4.0", "citation": "Us."}
    export_hugging_face(dataset, out, seed=1, n=2, origin=origin, cache=tmp_path)
    _, head, text = (out / "README.md").read_text("utf-8").split("---\n", maxsplit=2)
    card = yaml.safe_load(head)
    assert card["license_name"] == "CC BY-SA 4.0" and "- citation: Us." in text
    tables = {
        (config["config_name"], file["split"]): pd.read_parquet(out / file["path"])
        for config in card["configs"]
        for file in config["data_files"]
    }
    parts = [len(tables["interactions", split]) for split in ("train", "validation", "test")]
    assert parts == [dataset.n_interactions - 2 * dataset.n_users, dataset.n_users, dataset.n_users]
    assert len(tables["items", "items"]) == dataset.n_items
    ids = dataset.items["item_id"].to_numpy()
    test = tables["candidates", "test"]
    assert test["target"].tolist() == tables["interactions", "test"]["item_id"].tolist()
    drawn = ids[draw_negatives(dataset, seed=1, n=2)]
    assert [row.tolist() for row in test["candidates"]] == drawn.tolist()


def test_commands_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hm(tmp_path)
    assert main(["stats", "hm"]) == 0
    said = capsys.readouterr().out
    assert "not built" in said and "interactions 31,788,324" in said and "paper, Table 4: none" in said
    assert main(["get", "hm", "--source", str(tmp_path), "--no-progress"]) == 0
    said = capsys.readouterr().out
    assert "5-core after pictures" in said and "--dataset hm" in said
    assert main(["stats", "hm"]) == 0 and "fingerprint: " in capsys.readouterr().out
    assert main(["list"]) == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [words[0] for words in listed if words[1:2] == ["built"]] == ["hm"]
    assert main(["check", str(built_folder("hm"))]) == 0
    assert "all 9 pictures can be decoded" in capsys.readouterr().out
    out = tmp_path / "hf"
    assert main(["export", "hm", "--to", "hugging-face", "--out", str(out), "--negatives", "2"]) == 0
    assert "licence: the competition's rules" in (out / "README.md").read_text("utf-8")
    assert main(["export", "hm", "--to", "recbole", "--out", str(tmp_path / "rb"), "--negatives", "2"]) == 0
    note = built_folder("hm") / "build.json"
    note.write_text(note.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    assert main(["check", str(built_folder("hm"))]) == 2
    error = capsys.readouterr().err
    assert f"{note}: damaged" in error and "python -m illmrec.data get hm" in error
    (built_folder("hm") / "checksums.json").unlink()
    changed = json.loads(note.read_text())
    note.write_text(json.dumps({name: value for name, value in changed.items() if name != "checksum"}))
    assert main(["check", str(built_folder("hm"))]) == 2
    assert "was changed since" in capsys.readouterr().err


def test_a_file_is_checked_before_it_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_amazon18(
        tmp_path, reviews=lambda rows: [*rows, {"reviewerID": "A", "asin": "B", "unixReviewTime": "?"}]
    )
    (tmp_path / "Arts_Crafts_and_Sewing_5.json.gz").rename(tmp_path / "downloaded.gz")
    assert main(["check", str(tmp_path / "downloaded.gz")]) == 0
    said = capsys.readouterr().out
    assert "interactions of amazon18" in said and "lines: 73" in said and "line 73: time is '?'" in said
    (tmp_path / "notes.txt").write_text("a,b\n1,2\n")
    assert main(["check", str(tmp_path / "notes.txt")]) == 2
    assert "no publisher's file that is known; its first line has a, b" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "nowhere")]) == 2


def test_a_curve_of_time_against_lines_is_kept_as_it_grows(tmp_path: Path, monkeypatch, capsys) -> None:
    def measured(lines: int, folder: Path, *, pandas: bool, workers: int):
        for way, seconds in (("here", lines / 4e4), *([("pandas", lines / 1e4)] if pandas else [])):
            if lines == 5000:
                raise KeyboardInterrupt
            yield {
                "way": way, "lines": lines, "file": 130 * lines, "parse": seconds, "filter": seconds, "cpu": seconds,
                "peak": 0.3, "left": lines - 7,
            }  # fmt: skip

    monkeypatch.setattr("illmrec.data.sources.measuring.measured", measured)
    assert main(["measure", "--lines", "1000,2000,5000", "--out", str(tmp_path / "out")]) == 130
    table = pd.read_csv(tmp_path / "out" / "measure.csv")
    assert table["lines"].tolist() == [1000, 1000, 2000, 2000]
    assert table["lines_per_second"].tolist() == [20_000, 5_000] * 2 and (table["cores"] > 0).all()
    with Image.open(tmp_path / "out" / "measure.png") as image:
        assert image.format == "PNG" and len(image.getcolors(1 << 24)) > 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["measure.csv", "measure.png"]
    (tmp_path / "file").write_text("")
    assert main(["measure", "--lines", "1000", "--no-pandas", "--out", str(tmp_path / "file" / "x")]) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fetch"], "unknown command 'fetch'"),
        (["get", "amazon18-arts"], "did you mean 'amazon18-art'"),
        (["get"], "missing: --name"),
        (["get", "hm", "--shard", "3/2", "--source", "."], "--shard 3/2: give i/n"),
        (["get", "hm", "--clean", "html"], "--clean"),
        (["get", "hm", "--workers", "0"], "give 1 or more"),
        (["export", "hm", "--to", "recbole", "--out", "x"], "hm: not built yet"),
    ],
)
def test_commands_that_cannot_be_carried_out(
    arguments, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(f"illmrec.data {command}" in said for command in COMMANDS)


def test_notes_hold_no_path_of_this_machine(tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    assert main(["get", "amazon18-art", "--source", str(tmp_path), "--images", "none", "--no-progress"]) == 0
    note = json.dumps(json.loads((built_folder("amazon18-art") / "build.json").read_text()))
    assert str(tmp_path) not in note and "/tmp" not in note
