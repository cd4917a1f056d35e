"""Who calls: on the record, and to the agent."""

from __future__ import annotations

from control.identity import recorded, told
from edge.identity import Diverted, Identity, Named

ALICE = Identity(
    from_=Named("alice", "Alice"),
    asserted=(Named("+14155550199", "Alice A"),),
    diversion=(Diverted("+14155550100", "unconditional"), Diverted("+14155550101")),
    history=(Diverted("+14155550102", "SIP;cause=302"),),
    verstat="TN-Validation-Passed-A",
)
HIDDEN = Identity(
    from_=Named("anonymous", "Anonymous"),
    asserted=(Named("+14155550199", "Alice A"),),
    privacy=("id",),
    hidden=True,
)


def test_the_record_has_all_that_was_said() -> None:
    assert recorded(ALICE, None) == {
        "name": "Alice A",
        "asserted": ["+14155550199"],
        "verstat": "TN-Validation-Passed-A",
        "diversion": [
            {"number": "+14155550100", "reason": "unconditional"},
            {"number": "+14155550101", "reason": ""},
        ],
        "history": [{"number": "+14155550102", "reason": "SIP;cause=302"}],
    }


def test_the_agent_is_told_by_documented_names() -> None:
    assert told(ALICE, None) == {
        "caller_name": "Alice A",
        "verstat": "TN-Validation-Passed-A",
        "diverted_from": "+14155550100",
        "diversion_reason": "unconditional",
    }


def test_a_hidden_caller_is_told_to_nobody() -> None:
    """RFC 3323 §4.2: the number and the name that the carrier asserts included."""
    assert recorded(HIDDEN, None) == {"privacy": ["id"], "hidden": True}
    assert told(HIDDEN, None) == {"privacy": "id"}
    hidden = Identity(from_=Named("x", "X"), hidden=True)
    assert told(hidden, None) == {"privacy": "full"}


def test_the_carriers_webhook_has_the_last_word_on_the_verification() -> None:
    """Twilio tells it there, Telnyx in the INVITE."""
    assert recorded(ALICE, "No-TN-Validation")["verstat"] == "No-TN-Validation"
    assert told(None, "TN-Validation-Passed-B") == {"verstat": "TN-Validation-Passed-B"}
    assert recorded(None, "TN-Validation-Passed-B") == {"verstat": "TN-Validation-Passed-B"}
    assert (recorded(None, None), told(None, None)) == ({}, {})
