"""Who calls: as the carriers' own INVITEs say it, and as nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.events import CallOffered
from edge.identity import Diverted, Identity, Named, identity_of
from tests.edge.pair import Solo, invite, trunk

TWILIO = [
    ("P-Asserted-Identity", "<sip:+10985550100@184.150.215.12:5060>"),
    ("Diversion", "<sip:+11235550100@twilio.com>;reason=unconditional"),
]
TELNYX = [
    (
        "P-Asserted-Identity",
        '"Alice A"<sip:919113162180@sip.telnyx.com;verstat=TN-Validation-Passed-C>',
    )
]


def of(headers: list[tuple[str, str]], *, believed: bool = True) -> Identity:
    return identity_of(invite(headers=headers), believed=believed)


def test_twilios_invite() -> None:
    found = of(TWILIO)
    assert found.caller == Named("+10985550100", "Alice")
    assert found.diversion == (Diverted("+11235550100", "unconditional"),)
    assert (found.verstat, found.hidden) == ("", False)


def test_telnyxs_invite_has_the_verification_inside_the_asserted_uri() -> None:
    found = of(TELNYX)
    assert found.caller == Named("919113162180", "Alice A")
    assert found.verstat == "TN-Validation-Passed-C"


@pytest.mark.parametrize(
    ("value", "verstat"),
    [
        ("<sip:+1415@h;verstat=TN-Validation-Passed>", "TN-Validation-Passed"),
        ("<sip:+1415;verstat=TN-Validation-Failed-B@h;user=phone>", "TN-Validation-Failed-B"),
        ("<tel:+14155550100;verstat=No-TN-Validation>", "No-TN-Validation"),
        ("<sip:+1415@h>;verstat=tn-validation-passed-a", "TN-Validation-Passed-A"),
        ("<sip:+1415@h;verstat=Certainly>", ""),
        ("<sip:+1415@h;verstat>", ""),
    ],
)
def test_verstat_wherever_it_is_put(value: str, verstat: str) -> None:
    found = of([("P-Asserted-Identity", value)])
    assert found.verstat == verstat
    assert ";" not in found.caller.user


def test_remote_party_id_stands_in_for_an_asserted_identity() -> None:
    headers = [
        ("Remote-Party-ID", "<sip:+12@h>;party=called"),
        ("Remote-Party-ID", '"Bob" <sip:+13@h>;party=calling;screen=yes;privacy=off'),
    ]
    assert of(headers).caller == Named("+13", "Bob")
    assert of([*headers, ("P-Asserted-Identity", "<sip:+14@h>")]).caller.user == "+14"


@pytest.mark.parametrize(
    ("headers", "hidden"),
    [
        ([("Privacy", "id")], True),
        ([("Privacy", "ID; critical")], True),
        ([("Privacy", "user;header")], True),
        ([("Privacy", "none")], False),
        ([("Privacy", "history")], False),
        ([("Remote-Party-ID", "<sip:+1@h>;privacy=full")], True),
        ([("Remote-Party-ID", "<sip:+1@h>;privacy=off")], False),
        ([], False),
    ],
)
def test_a_caller_who_wants_to_be_hidden_is(headers: list[tuple[str, str]], hidden: bool) -> None:
    """RFC 3323 §4.2, RFC 3325 §9.3."""
    assert of(headers).hidden is hidden


def test_an_identity_is_believed_from_a_trunk_alone() -> None:
    """RFC 3325 §8: from anybody else it is as if absent; their wish for privacy is not."""
    found = of([*TELNYX, ("Remote-Party-ID", "<sip:+13@h>"), ("Privacy", "id")], believed=False)
    assert (found.asserted, found.remote_party, found.verstat) == ((), None, "")
    assert found.caller == Named("alice", "Alice")
    assert found.hidden


def test_history_info_is_read_in_its_order() -> None:
    headers = [
        ("History-Info", "<sip:+11@h?Reason=SIP%3Bcause%3D302>;index=1, <sip:+12@h;cause=302>;index=1.1"),
        ("History-Info", "<sip:h>;index=1.1.1"),
    ]
    assert of(headers).history == (Diverted("+11", "SIP;cause=302"), Diverted("+12"))


def test_a_trunk_that_is_not_believed_is_not_believed_by_the_engine() -> None:
    rule = trunk("phones", "192.0.2.0/24")
    for believed in (True, False):
        solo = Solo(rules=(type(rule)(rule.name, rule.networks, asserts_identity=believed),))
        solo.receive(invite(headers=TELNYX))
        offered = solo.take(CallOffered)
        assert offered.caller == ("919113162180" if believed else "alice")
        assert offered.who is not None
        assert bool(offered.who.verstat) is believed


def test_the_callers_name_is_printable() -> None:
    """It goes into logs, a database and a page."""
    assert of([("P-Asserted-Identity", '"\x1b[31m red" <sip:+1@h>')]).caller == Named("+1", "\ufffd[31m red")


JUNK = st.one_of(
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40), st.just("<sip:a@b>" * 9)
)


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(["P-Asserted-Identity", "Remote-Party-ID", "Privacy", "Diversion", "History-Info"]), JUNK
        ),
        max_size=20,
    )
)
def test_nothing_raises_and_all_is_bounded_and_printable(headers: list[tuple[str, str]]) -> None:
    found = of(headers)
    users = [each.user for each in (*found.asserted, *found.diversion, *found.history)]
    assert all(len(user) <= 128 and user.isprintable() for user in users)
    assert len(found.asserted) <= 8 and len(found.diversion) <= 8 and len(found.history) <= 8
