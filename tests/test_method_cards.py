"""Every method has a card in ``docs/methods/``, with all its parts, and what a card tells people to type is sound.

Commands are parsed, not run: whether methods run is for their own tests.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from headings import anchors

from bench.comparison import main
from bench.harness.methods import CONTROLS, METHODS, check_method
from illmrec.command_line import parse_options

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "methods"
HEADINGS = (
    "What it is",
    "Source",
    "Differences",
    "Run it",
    "Reported",
    "Obtained here",
    "What fails",
)
FILES = {"illmrec+": "illmrec-plus", **{f"illmrec-{n}-tokens": "image-tokens" for n in (2, 4, 8)}} | {
    name: "slot-controls" for name, control in CONTROLS.items() if control.slot_content != "features"
}
"""Cards that are not called as their method, which is no file name, or that several methods share."""
CARDS = {name: FOLDER / f"{FILES.get(name, name)}.md" for name in METHODS}
DOCUMENTS = sorted(FOLDER.glob("*.md"))


def parts(card: Path) -> dict[str, str]:
    """Return the text under each heading of a card, in order."""
    _, *found = re.split(r"^## (.+)\n", card.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2], strict=True))


def test_every_card_is_of_a_method() -> None:
    assert {*CARDS.values(), FOLDER / "README.md"} == set(DOCUMENTS)


@pytest.mark.parametrize("name", METHODS)
def test_a_card_has_all_its_parts(name: str) -> None:
    card = CARDS[name]
    assert f"`{name}`" in card.read_text("utf-8").partition("\n")[0]
    found = parts(card)
    assert tuple(found) == HEADINGS
    assert all(text.strip() for text in found.values())
    (sentence,) = re.findall(
        rf"^<!-- obtained: {re.escape(name)} -->\n(.+)$", found["Obtained here"], re.MULTILINE
    )
    assert sentence.endswith(".")
    for folder in re.findall(r"\]\(([^)]+)\)", sentence):
        assert (FOLDER / folder).is_dir(), folder


@pytest.mark.parametrize("name", METHODS)
def test_the_command_of_a_card_is_sound_and_runs_its_method(name: str) -> None:
    (block,) = re.findall(r"^```bash\n(.*?)^```$", parts(CARDS[name])["Run it"], re.MULTILINE | re.DOTALL)
    (line,) = block.splitlines()
    python, module, program, *arguments = shlex.split(line)
    assert (python, module, program) == ("python", "-m", "bench.comparison")
    options = parse_options(main, prog="python -m bench.comparison", args=arguments)
    assert options["settings"].preset == "smoke"
    assert name in [check_method(method) for method in options["methods"]]


def test_the_list_names_every_method_once_and_leads_to_its_card() -> None:
    rows = re.findall(r"^\| \[`(.+?)`\]\((.+?)\)", (FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted((name, card.name) for name, card in CARDS.items())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        aim = document.parent / file if file else document
        assert aim.exists(), target
        assert not anchor or anchor in anchors(aim.read_text("utf-8")), target
