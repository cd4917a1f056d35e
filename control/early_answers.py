"""The descriptions in provisional responses to an INVITE of ours, by the fork that sent them (RFC 3261 §13.2.2.4)."""

from __future__ import annotations

from edge.events import CallAnswered, CallProgressed

__all__ = ["EarlyAnswers"]


class EarlyAnswers:
    """Of one INVITE. At most so many forks are told apart; false while there is none."""

    MOST = 16

    def __init__(self) -> None:
        self._by_tag: dict[str, bytes] = {}

    def __len__(self) -> int:
        """Forks that have described themselves."""
        return len(self._by_tag)

    def take(self, event: CallProgressed) -> bytes | None:
        """What a fork says of itself that it has not said before."""
        known = event.tag in self._by_tag
        if event.body is None or self._by_tag.get(event.tag) == event.body or (not known and len(self) >= self.MOST):
            return None
        self._by_tag.pop(event.tag, None)
        self._by_tag[event.tag] = event.body
        return event.body

    def answer(self, event: CallAnswered) -> bytes | None:
        """The 2xx's; one without stands on what its fork has said, or the last of them where its tag is another."""
        last = next(reversed(self._by_tag.values()), None)
        return event.body if event.body is not None else self._by_tag.get(event.tag, last)
