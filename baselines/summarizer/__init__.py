"""TRSR's summary column: each item's attributes and description condensed by a language model, once per item."""

from baselines.summarizer.report import Summaries, SummaryReport
from baselines.summarizer.writing import SummaryOptions, summaries

__all__ = ["Summaries", "SummaryOptions", "SummaryReport", "summaries"]
