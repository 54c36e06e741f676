"""What the endpoint counts, in the text format that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import psutil

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """Counts of values up to bounds.

    Args:
        bounds: Upper bounds, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts = tuple(bounds), [0] * len(bounds)
        self.total, self.count = 0.0, 0

    def add(self, value: float) -> None:
        """Count a value."""
        self.total += value
        self.count += 1
        for place, bound in enumerate(self.bounds):
            self.counts[place] += value <= bound

    def lines(self, name: str, about: str) -> Iterator[str]:
        """Yield the lines of the text format."""
        yield from (f"# HELP {name} {about}", f"# TYPE {name} histogram")
        for bound, count in zip(self.bounds, self.counts, strict=True):
            yield f'{name}_bucket{{le="{bound:g}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {self.count}'
        yield from (f"{name}_sum {self.total:.6f}", f"{name}_count {self.count}")


class Meters:
    """Requests by route and status, seconds, sizes of batches, the queue, memory.

    Args:
        routes: Paths that are told apart; all others count as ``other``, so that nobody can make up labels.
    """

    def __init__(self, routes: Sequence[str]) -> None:
        self.routes = frozenset(routes)
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds, self.batches = Histogram(_SECONDS), Histogram(_SIZES)
        self.waiting = 0
        self._process = psutil.Process()

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests[path if path in self.routes else "other", status] += 1
        self.seconds.add(seconds)

    def text(self) -> str:
        """Return all of it."""
        lines = ["# HELP illmrec_requests_total Requests answered.", "# TYPE illmrec_requests_total counter"]
        lines += [
            f'illmrec_requests_total{{route="{route}",status="{status}"}} {count}'
            for (route, status), count in sorted(self.requests.items())
        ]
        lines += self.seconds.lines("illmrec_request_seconds", "Seconds from a request to its answer.")
        lines += self.batches.lines("illmrec_batch_size", "Requests computed together.")
        gauges = {
            "illmrec_waiting_requests": ("Requests that wait to be computed.", self.waiting),
            "process_resident_memory_bytes": ("Resident memory.", self._process.memory_info().rss),
        }
        for name, (about, value) in gauges.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {value}"]
        return "\n".join(lines) + "\n"
