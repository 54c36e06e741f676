"""``python -m illmrec.data``: the published data sets, got, counted, checked and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from illmrec.data import load_dataset
from illmrec.data.fetching.pictures import Limits
from illmrec.data.registry import Source, registry, source_named
from illmrec.data.sources.checking import check_file, check_folder
from illmrec.data.sources.parsing import shard_of
from illmrec.data.sources.pipeline import Build, BuildOptions
from illmrec.data.sources.places import built_folder
from illmrec.data.sources.report import lines_of
from illmrec.data.sources.writing import read_note, terms
from illmrec.errors import InputError
from illmrec.files import cache_dir
from illmrec.temporary import scratch_folder


def list_data_sets(*, registry_file: Path | None = None) -> int:
    """List the published data sets that are known by name.

    Args:
        registry_file: Your own registry, a YAML file or a folder of them; $ILLMREC_REGISTRY names one for all commands.
    """
    known = registry(registry_file)
    width = max(map(len, known))
    for name, source in known.items():
        built = "built" if read_note(built_folder(name)) is not None else ""
        paper = "Table 4" if source.paper is not None else ""
        print(f"{name:<{width}}  {built:<5}  {paper:<7}  {source.title}")
    print(f"{len(known)} data sets; python -m illmrec.data get NAME builds one, stats NAME says more")
    return 0


def get(
    options: BuildOptions,
    *,
    name: str,
    source: Path | None = None,
    picture_folder: Path | None = None,
    shard: str | None = None,
    workers: int = 2,
    retry_missing: bool = False,
    per_host: int = 4,
    per_second: float = 10.0,
    registry_file: Path | None = None,
    progress: bool = True,
) -> int:
    """Build a published data set, from the publisher's files to a folder that experiments read by its name.

    Steps: fetch the files, or take those of --source; parse; filter; drop duplicates; k-core; fetch or read pictures
    and decode each; k-core again; write; read back. Each resumes where it was interrupted. What each step left is
    printed, beside the paper's and the publisher's counts.

    Args:
        options: What changes the data.
        name: A name of python -m illmrec.data list.
        source: Folder with the publisher's files, packed or not; nothing but pictures is fetched then.
        picture_folder: Folder or zip file with pictures, named after the items' ids.
        shard: i/n reads every n-th part of the files, from the i-th, and fetches every n-th picture; when all n are
            done, run it without.
        workers: Threads that read.
        retry_missing: Ask again for pictures that were not found.
        per_host: Pictures that are fetched from one host at a time.
        per_second: Pictures that are asked of one host in a second.
        registry_file: Your own registry, a YAML file or a folder of them.
        progress: Show progress bars.
    """
    if workers < 1 or per_host < 1 or per_second <= 0:
        raise InputError("--workers, --per-host and --per-second: give 1 or more, the last more than 0")
    chosen = source_named(name, registry_file)
    build = Build(
        source=chosen,
        options=options,
        directory=source,
        picture_folder=picture_folder,
        shard=None if shard is None else shard_of(shard),
        workers=workers,
        retry_missing=retry_missing,
        limits=Limits(per_host=per_host, per_second=per_second),
        progress=progress,
    )
    folder = build.run()
    if folder is None:
        print(f"shard {shard} is done; when all are, run the command without --shard")
        return 0
    _print_report(chosen, folder)
    print(f"built in {folder}; use it as --dataset {name}")
    return 0


def stats(*, name: str, registry_file: Path | None = None) -> int:
    """Print what a built data set holds, step by step, beside the paper's numbers; of one not built, what is known.

    Args:
        name: A name of python -m illmrec.data list.
        registry_file: Your own registry, a YAML file or a folder of them.
    """
    source = source_named(name, registry_file)
    folder = built_folder(name)
    if read_note(folder) is not None:
        _print_report(source, folder)
        return 0
    print(f"{name}: {source.title}; not built: python -m illmrec.data get {name}")
    for what, said in terms(source).items():
        print(f"{what.replace('_', ' ')}: {said or 'none found'}")
    for role, file in source.files.items():
        size = f"{file.bytes:,} bytes" if file.bytes is not None else "size not published"
        print(f"{role}: {file.name}, {size}; {file.url or file.how or 'in the archive'}")
    for what, counts in (("published", source.published), ("paper, Table 4", source.paper)):
        shown = [
            f"{kind.replace('_', ' ')} {count:,}" if not isinstance(count, str) else f"{kind} {count}"
            for kind, count in (counts or {}).items()
        ]
        print(f"{what}: {', '.join(shown) or 'none'}")
    if source.published:
        print(f"published in: {source.published_source}")
    for line in source.differences:
        print(f"- {line}")
    return 0


def check(*, path: Path, name: str | None = None) -> int:
    """Check a publisher's file, or a folder that experiments read: read it to its end and say what is in it.

    Args:
        path: The file or folder.
        name: The data set whose file it should be; "none" finds out.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    for line in check_folder(path) if path.is_dir() else check_file(path, name):
        print(line)
    return 0


def export(
    *,
    name: str,
    to: Literal["recbole", "hugging-face"],
    out: Path,
    min_interactions: int = 5,
    split: Literal["leave-one-out", "global-time"] = "leave-one-out",
    seed: int = 0,
    negatives: int = 100,
    longest: int = 50,
) -> int:
    """Write a data set, its split and its candidates for other people's tools.

    Args:
        name: A data set that is built, folder:PATH or toyshop.
        to: recbole writes atomic files, hugging-face a folder with a card that the library datasets loads.
        out: Folder that becomes the export's; what was in it is replaced.
        min_interactions: The k of the k-core on users and items.
        split: How it is split, as in experiments.
        seed: Of the candidates.
        negatives: Candidates of each user beside the target.
        longest: Items of a history in RecBole's benchmark files.
    """
    from illmrec.data.exports.hugging_face import export_hugging_face
    from illmrec.data.exports.recbole import export_recbole

    dataset = load_dataset(name, min_interactions=min_interactions, split=split)
    if to == "recbole":
        files = export_recbole(dataset, out, seed=seed, n=negatives, longest=longest, cache=cache_dir())
    else:
        known = registry()
        origin = terms(known[name]) if name in known else None
        files = export_hugging_face(dataset, out, seed=seed, n=negatives, origin=origin, cache=cache_dir())
    print(f"{out}: {', '.join(files)}")
    return 0


def measure(
    *,
    lines: tuple[int, ...] = (1_000_000,),
    pandas: bool = True,
    workers: int = 2,
    folder: Path | None = None,
    out: Path | None = None,
) -> int:
    """Measure how fast reviews are read here, and in how much memory: a file in a publisher's layout is made for it.

    Several numbers of lines give a curve: --lines 100000,1000000,10000000 --out DIR writes DIR/measure.csv and
    DIR/measure.png, after each number anew, so that a run that is cut off leaves what it has measured. Each way reads
    each file in a process of its own, one after the other.

    Args:
        lines: Lines of the file; several are measured one after the other.
        pandas: Measure a plain pandas script beside it, on the same file.
        workers: Threads that read.
        folder: Where the file goes, about 130 bytes a line; it is deleted. "none" is the system's temporary folder.
        out: Folder for the table and the figure; "none" prints alone.
    """
    from illmrec.data.sources.curve import tidy, write_curve
    from illmrec.data.sources.measuring import machine, measured

    if min(lines, default=0) < 1 or workers < 1:
        raise InputError("--lines and --workers: give 1 or more")
    print(machine())
    widths = (8, 12, 10, 10, 11, 11, 9, 10, 12)
    heads = ("way", "lines", "file, MB", "parse, s", "filter, s", "lines/s", "CPU, s", "peak, GB", "left")
    print("".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    rows = []
    for count in lines:
        with scratch_folder(folder) as place:
            for row in measured(count, Path(place), pandas=pandas, workers=workers):
                rows.append(tidy(row))
                cells = (
                    row["way"],
                    f"{row['lines']:,}",
                    f"{row['file'] / 1e6:.1f}",
                    f"{row['parse']:.1f}",
                    f"{row['filter']:.1f}",
                    f"{rows[-1]['lines_per_second']:,}",
                    f"{row['cpu']:.1f}",
                    f"{row['peak']:.2f}",
                    f"{row['left']:,}",
                )
                print(
                    "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True
                )
        if out is not None:
            written = write_curve(out, rows)
    if out is not None:
        print(f"{', '.join(map(str, written))}")
    return 0


def _print_report(source: Source, folder: Path) -> None:
    note = read_note(folder)
    assert note is not None
    for line in lines_of(source, note):
        print(line)
