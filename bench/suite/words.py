"""Estimates as readers see them: no more digits than an estimate is good for."""

from __future__ import annotations


def in_words(seconds: float) -> str:
    """Return a duration to two significant digits at most: ``about 40 s``, ``about 12 min``, ``about 3.5 h``."""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"about {hours:.1f} h" if hours < 10 else f"about {hours:,.0f} h"


def energy_in_words(watt_hours: float) -> str:
    """Return energy to two significant digits: ``0.36 Wh``, ``12 Wh``, ``3.4 kWh``."""
    return f"{_two_digits(watt_hours / 1e3)} kWh" if watt_hours >= 999.5 else f"{_two_digits(watt_hours)} Wh"


def money_in_words(cost: float, currency: str) -> str:
    """Return money to two significant digits, from a hundredth of the currency on: ``0.04 EUR``, ``130 USD``."""
    return f"{_two_digits(cost)} {currency}" if cost == 0 or cost >= 0.01 else f"below 0.01 {currency}"


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.15g}"
