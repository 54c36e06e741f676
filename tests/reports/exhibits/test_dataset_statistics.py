"""Table 4: a data set each, with shares of targets on the same day where times are held."""

from __future__ import annotations

import io

import pandas as pd
from stored import FULL, section_of

from reports.exhibits.dataset_statistics import table4
from reports.wording.tables import MISSING


def test_shares_of_targets_on_the_same_day(filler) -> None:
    filler.statistics |= {"same_day": 0.3712, "same_time": 0.05}
    filler.accuracy("illmrec", 0.4, **FULL)
    found = table4([section_of(filler)])
    assert [column.title for column in found.columns[-2:]] == ["Target on same day", "Target at same time"]
    assert found.rows[0][-2:] == ["37%", "5%"]
    data = pd.read_csv(io.StringIO(found.csv()))
    assert data.loc[0, ["same_day", "same_time"]].tolist() == [0.3712, 0.05]


def test_data_without_times_have_none(filler) -> None:
    filler.accuracy("illmrec", 0.4, **FULL)
    found = table4([section_of(filler)])
    assert found.rows[0][-2:] == [MISSING, MISSING]
    assert pd.read_csv(io.StringIO(found.csv()))[["same_day", "same_time"]].isna().all(axis=None)
