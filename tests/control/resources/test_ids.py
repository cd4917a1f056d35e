"""Ids as they are spelled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.resources.ids import account_sid, call_sid, id_of

ID = "0198c0de-0000-4000-8000-00000000abcd"
HEX = "0198c0de00004000800000000000abcd"


def test_sids_are_ids_in_twilio_s_shape() -> None:
    """AC and CA, 34 characters."""
    assert account_sid(ID) == "AC" + HEX
    assert call_sid(ID) == "CA" + HEX


@pytest.mark.parametrize(
    ("text", "prefix", "id"),
    [
        (ID, None, ID),
        (ID.upper(), None, ID),
        (ID, "CA", ID),
        ("CA" + HEX, "CA", ID),
        ("CA" + HEX.upper(), "CA", ID),
        ("CA" + HEX, None, None),
        ("AC" + HEX, "CA", None),
        ("ca" + HEX, "CA", None),
        (HEX, "CA", None),
        ("CA" + HEX[:-1], "CA", None),
        ("CA" + HEX[:-1] + "g", "CA", None),
        ("CA" + HEX[:-1] + "٣", "CA", None),
        ("CA" + HEX[:-1] + "_", "CA", None),
        ("{" + ID[1:-1] + "}", None, None),
        ("urn:uuid:" + ID, None, None),
        (ID.replace("-", "") + "----", None, None),
        ("-" * 36, None, None),
        (ID[:-1] + "\n", None, None),
        ("", "CA", None),
    ],
)
def test_an_id_is_spelled_in_two_ways_and_no_other(text: str, prefix: str | None, id: str | None) -> None:
    """RFC 9562 §4, and Twilio's."""
    assert id_of(text, prefix) == id


@given(st.text(max_size=40), st.sampled_from([None, "AC", "CA"]))
def test_any_text_is_an_id_or_none(text: str, prefix: str | None) -> None:
    """Without raising."""
    assert id_of(text, prefix) in (None, (id_of(text, prefix) or "").lower())


@given(st.uuids())
def test_ids_come_back_from_their_sids(id: object) -> None:
    """All of them."""
    assert id_of(account_sid(str(id)), "AC") == str(id)
