"""The data type of a CPU: measured once and kept."""

from __future__ import annotations

import pytest
import torch

from illmrec.model import precision


@pytest.mark.parametrize(("bfloat16_seconds", "expected"), [(0.5, torch.bfloat16), (0.95, torch.float32)])
def test_the_faster_type_is_measured_once(tmp_path, monkeypatch, bfloat16_seconds, expected):
    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path))
    measured = []

    def seconds(dtype: torch.dtype) -> float:
        measured.append(dtype)
        return bfloat16_seconds if dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(precision, "_seconds", seconds)
    cpu = torch.device("cpu")
    assert [precision.native_dtype(cpu) for _ in range(2)] == [expected, expected]
    assert sorted(map(str, measured)) == ["torch.bfloat16", "torch.float32"]


def test_a_probe_leaves_random_numbers_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path))
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    assert precision.native_dtype(torch.device("cpu")) in (torch.bfloat16, torch.float32)
    assert torch.equal(torch.randn(3), expected)
