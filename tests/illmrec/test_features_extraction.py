"""Features of many items: decoded in processes, computed by shards, stored narrow, killed and continued."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from illmrec.data import load_dataset
from illmrec.errors import InputError
from illmrec.features import computing, decoding, image_features, rates, table
from illmrec.features.__main__ import main
from illmrec.features.computing import compute_table
from illmrec.features.decoding import PictureReader
from illmrec.features.pixels import WholePicture
from illmrec.features.vision import picture_content, picture_table

SHOP = 30


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items with pictures of several sizes and formats, and users enough for the 5-core."""
    folder = tmp_path_factory.mktemp("shops") / "shop"
    (folder / "images").mkdir(parents=True)
    ids = [f"i{item}" for item in range(SHOP)]
    pd.DataFrame({"item_id": ids, "title": ids}).to_csv(folder / "items.csv", index=False)
    rows = [(f"u{user}", item, time) for user in range(6) for time, item in enumerate(ids)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(
        folder / "interactions.csv", index=False
    )
    rng = np.random.default_rng(0)
    for number, item in enumerate(ids):
        pixels = rng.integers(0, 256, (*rng.integers(20, 60, 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{item}.{('png', 'jpg')[number % 2]}")
    return folder


def packed(shop: Path, folder: Path, how: str) -> Path:
    """Return a copy of the shop whose pictures are in an archive."""
    shutil.copytree(shop, folder, ignore=lambda *_: ["images"])
    files = sorted((shop / "images").iterdir())
    if how == "tar":
        with tarfile.open(folder / "images.tar", "w") as tape:
            for path in files:
                tape.add(path, arcname=path.name)
    else:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for path in files:
                archive.write(path, path.name)
    return folder


def encoded(pixels: np.ndarray) -> np.ndarray:
    """Stand for an encoder that costs nothing to import."""
    return pixels.reshape(len(pixels), -1)[:, ::5].astype(np.float32) / 3


def test_folder_zip_and_tar_in_threads_and_processes_give_the_same_bytes(shop: Path, tmp_path: Path) -> None:
    places = [shop, packed(shop, tmp_path / "zip", "zip"), packed(shop, tmp_path / "tar", "tar")]
    datasets = [load_dataset(f"folder:{place}") for place in places]
    contents = set()
    for number, (dataset, workers) in enumerate(zip(datasets, (0, 1, 2), strict=True)):
        found = picture_table(
            dataset,
            tmp_path / str(number),
            width=None,
            load=WholePicture(8),
            stack=np.stack,
            encode_batch=encoded,
            cache=tmp_path,
            batch_size=7,
            meta={},
            progress=False,
            description="pixels",
            device="cpu",
            workers=workers,
        )
        assert found.meta.get("processes", 0) == workers
        contents.add((tmp_path / str(number) / "values.npy").read_bytes())
    assert len(contents) == 1
    assert picture_content(datasets[0]) == picture_content(
        datasets[2]
    )  # the key does not know where they lie


def test_pictures_come_in_order_and_few_at_a_time(shop: Path) -> None:
    images = load_dataset(f"folder:{shop}").images
    assert images is not None
    reads: list[int] = []

    class Counted:
        available, fingerprint = images.available, images.fingerprint

        def read(self, item: int) -> Image.Image:
            reads.append(item)
            return images.read(item)

    load = WholePicture(4)
    batches = [np.arange(first, first + 3) for first in range(0, SHOP, 3)]
    with PictureReader(Counted(), load=load, stack=np.stack, pictures=SHOP, workers=0) as reader:
        for number, pixels in enumerate(reader(batches)):
            time.sleep(0.01)  # as an encoder would
            assert len(reads) <= 3 * (number + 1 + decoding._AHEAD + 1)
            wanted = np.stack([load(images.read(row)) for row in batches[number].tolist()])
            np.testing.assert_array_equal(pixels, wanted)
    assert sorted(reads) == list(range(SHOP))


class Dies:
    """Pictures of which one ends the process that reads it, as the system does when memory runs out."""

    available, fingerprint = np.ones(8, dtype=bool), "dies"

    def read(self, item: int) -> Image.Image:
        if item == 5:
            os._exit(9)
        if item == 6:
            raise InputError("item 6: no picture")
        return Image.new("RGB", (9, 9))


def test_a_process_that_dies_or_fails_is_one_line() -> None:
    with PictureReader(Dies(), load=WholePicture(4), stack=np.stack, pictures=8, workers=1) as reader:
        with pytest.raises(InputError, match="item 6: no picture"):
            list(reader([np.arange(4), np.array([6])]))
        with pytest.raises(
            InputError, match="ended from outside, as happens where memory runs out"
        ) as caught:
            list(reader([np.arange(6)]))
    assert "\n" not in str(caught.value)


def test_pictures_that_cannot_travel(caplog: pytest.LogCaptureFixture) -> None:
    arguments = {"load": lambda image: image, "stack": list, "pictures": decoding.MANY}
    with pytest.raises(InputError, match="--workers 2: these pictures cannot be read in processes"):
        PictureReader(Dies(), workers=2, **arguments)
    assert PictureReader(Dies(), **arguments).processes == 0
    assert PictureReader(Dies(), **(arguments | {"load": WholePicture(4)})).processes > 0
    assert PictureReader(Dies(), **(arguments | {"pictures": 8})).threads > 0


def test_large_catalogues_are_stored_narrow(shop: Path, tmp_path: Path, tiny_encoders, monkeypatch) -> None:
    dataset = load_dataset(f"folder:{shop}")
    options = {"encoder": tiny_encoders[1], "cache": tmp_path, "progress": False}
    wide = image_features(dataset, **options)
    monkeypatch.setattr(table, "NARROW_FROM", SHOP)
    narrow = image_features(dataset, **options)
    assert narrow.key != wide.key and narrow.stored.dtype == np.float16
    np.testing.assert_array_equal(narrow.stored, wide.values.astype(np.float16))
    assert image_features(dataset, **options).key == narrow.key


def options_of(shop: Path, tiny_encoders: list[str]) -> list[str]:
    return ["extract", "--dataset", f"folder:{shop}", *tiny_encoders, "--device", "cpu", "--no-progress"]


def test_the_command_says_how_much_and_how_fast(shop: Path, tiny_encoders, capsys, monkeypatch) -> None:
    monkeypatch.setattr(rates, "ENOUGH", 5)
    monkeypatch.setattr(rates, "ALONE", 2)
    options = [*options_of(shop, tiny_encoders), "--batch-size", "4"]
    for index in (1, 2):
        assert main([*options, "--shard", f"{index}/2"]) == 0
    assert "when all are, run the command without --shard" in capsys.readouterr().out
    assert main(options) == 0
    said = capsys.readouterr().out
    assert f"image: {SHOP} of {SHOP} items, 12 wide, float32, 49 bytes an item" in said
    assert "items/s" in said and "text: " in said and "bytes an item\n" in said
    assert main(options) == 0
    assert capsys.readouterr().out == said  # found in the cache


def test_damaged_pictures_are_named_or_missing(
    shop: Path, tmp_path: Path, tiny_encoders, capsys, caplog
) -> None:
    damaged = tmp_path / "shop"
    shutil.copytree(shop, damaged)
    (damaged / "images" / "i2.png").write_bytes(b"hello")
    (damaged / "images" / "i8.png").write_bytes((shop / "images" / "i8.png").read_bytes()[:200])
    options = [*options_of(damaged, tiny_encoders), "--features", "image"]
    assert main(options) == 2
    said = capsys.readouterr().err
    assert "2 of 30 pictures cannot be used" in said and "i2.png" in said and "i8.png" in said
    assert main([*options, "--broken-images", "missing"]) == 0
    assert "image: 28 of 30 items" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--features", "imge"], "did you mean 'image'"),
        (["--shard", "3/2"], "--shard 3/2: give i/n"),
        (["--workers", "-1"], "--workers: 0 or more"),
        (["--device", "cuda:99"], "--device cuda:99"),
    ],
)
def test_options_that_cannot_be_used(options, said: str, shop: Path, tiny_encoders, capsys) -> None:
    assert main([*options_of(shop, tiny_encoders), *options]) == 2
    assert said in capsys.readouterr().err


def test_help_teaches_and_unknown_commands_have_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "--shard 1/4" in capsys.readouterr().out
    assert main(["extrct"]) == 2
    assert "did you mean 'extract'" in capsys.readouterr().err


def compute_pixels(directory: Path, shop: Path, *, killed_after: int | None = None) -> list[list[int]]:
    """Make a table of pixels in a process that decodes; return the batches that were read, or be killed after some."""
    computing._RECORD_SECONDS = 0.0
    images = load_dataset(f"folder:{shop}").images
    assert images is not None
    asked: list[list[int]] = []
    with PictureReader(images, load=WholePicture(8), stack=np.stack, pictures=SHOP, workers=1) as reader:

        def read(batches):
            asked.extend(batch.tolist() for batch in batches)
            return reader(batches)

        def encode(pixels: np.ndarray) -> np.ndarray:
            nonlocal killed_after
            if killed_after == 0:
                print(*reader._executor._processes, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            killed_after = None if killed_after is None else killed_after - 1
            return encoded(pixels)

        compute_table(
            directory, n_items=SHOP, width=39, present=images.available, encode_batch=encode, read=read,
            batch_size=4, meta={}, description="pixels", progress=False,
        )  # fmt: skip
    return asked


def test_a_killed_run_goes_on_to_the_same_bytes(shop: Path, tmp_path: Path, monkeypatch) -> None:
    """As a batch system kills: what was recorded is kept, and processes that decode end with their parent."""
    monkeypatch.setattr(computing, "_RECORD_SECONDS", 0.0)
    program = f"""
from pathlib import Path
from test_features_extraction import compute_pixels
compute_pixels(Path({str(tmp_path / "k")!r}), Path({str(shop)!r}), killed_after=3)  # without a guard for the program
"""
    (tmp_path / "killed.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, tmp_path / "killed.py"], capture_output=True, env=environment, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (worker,) = map(int, done.stdout.split())
    assert compute_pixels(tmp_path / "k", shop)[0] == [12, 13, 14, 15]
    compute_pixels(tmp_path / "whole", shop)
    paths = [tmp_path / name / "values.npy" for name in ("k", "whole")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with contextlib.suppress(psutil.NoSuchProcess):
        assert psutil.Process(worker).status() == psutil.STATUS_ZOMBIE
