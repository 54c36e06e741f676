"""What docs/cluster.md tells people to type and cannot be run here: options that exist, code that compiles."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from test_readme import check_program

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "cluster.md").read_text("utf-8")
LINES = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", LINES)
def test_commands_have_the_options_that_they_name(line: str) -> None:
    from distributed.cli import dask_scheduler, dask_worker

    words = shlex.split(line)
    if words[:2] == ["python", "-m"]:
        check_program(words[2], tuple(words[3:]))
        return
    assert words[0] == "dask"
    program = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[words[1]]
    known = {
        option for parameter in program.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {word for word in words if word.startswith("--")} <= known


def test_recipes_compile() -> None:
    recipes = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert len(recipes) == 2 and len(LINES) >= 5
    for recipe in recipes:
        compile(recipe, "recipe", "exec")
