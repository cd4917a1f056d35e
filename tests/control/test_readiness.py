"""Whether new calls are welcome."""

from __future__ import annotations

import pytest

from control.readiness import Readiness

UP = ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (Readiness(UP, registry_open=True), True),
        (Readiness(UP, registry_open=True, registrations={"a": "registered", "b": "failed"}), True),
        (Readiness((), registry_open=True), False),
        (Readiness(UP, registry_open=False), False),
        (Readiness(UP, registry_open=True, draining=True), False),
        (Readiness(UP, registry_open=True, media_up=False), False),
        (Readiness(UP, registry_open=True, registrations={"a": "registered", "b": "pending"}), False),
    ],
)
def test_ready_is_listening_registry_open_and_first_registrations_done(state: Readiness, ready: bool) -> None:
    """A failed registration is one trunk's trouble; a pending one is a start that is not over."""
    assert state.ready is ready
