"""What a reader has to know: how to read the numbers, protocols, statistics, how to submit."""

from __future__ import annotations

from collections.abc import Iterator

from leaderboard.views.base import Content, Page
from leaderboard.views.wording import protocol_words


def pages(content: Content) -> Iterator[Page]:
    """Yield the page."""
    protocols: dict[str, dict[str, None]] = {}
    for comparison in content.comparisons:
        words = protocol_words(comparison.records[0]) or "its records do not tell"
        protocols.setdefault(comparison.protocol, {})[words] = None
    values = {
        "protocols": {name: list(words) for name, words in sorted(protocols.items())},
        "badged": any(comparison.badge for comparison in content.comparisons),
        "loaded": content.loaded,
    }
    yield Page("about.html", "about.html", values)
