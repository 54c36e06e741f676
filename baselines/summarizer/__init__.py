"""TRSR's summary column: each item's attributes and description condensed by a language model, once per item.

What comes back is as good as the model: the embedded one, with 135 M parameters, names the theme but is no reliable
witness of details.
"""

from baselines.summarizer.options import Endpoint, SummaryOptions
from baselines.summarizer.report import Summaries, SummaryReport
from baselines.summarizer.writing import summaries

__all__ = ["Endpoint", "Summaries", "SummaryOptions", "SummaryReport", "summaries"]
