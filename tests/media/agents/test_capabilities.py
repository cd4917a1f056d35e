"""The table of capabilities says what the classes do."""

from __future__ import annotations

import pytest

from media.agents.capabilities import CAPABILITIES
from media.agents.catalogue import PROTOCOLS
from media.agents.linked import LinkedAgent


def test_every_protocol_behind_a_link_has_a_row() -> None:
    linked = {name for name, made in PROTOCOLS.items() if isinstance(made, type) and issubclass(made, LinkedAgent)}
    assert linked == CAPABILITIES.keys()


@pytest.mark.parametrize("protocol", CAPABILITIES)
@pytest.mark.parametrize(("field", "method"), [("digits", "on_digit"), ("marks", "on_mark"), ("events", "on_event")])
def test_what_an_agent_is_told_its_class_tells(protocol: str, field: str, method: str) -> None:
    told = getattr(PROTOCOLS[protocol], method) is not getattr(LinkedAgent, method)
    assert bool(getattr(CAPABILITIES[protocol], field)) == told
