"""What a carrier's refusal means."""

from __future__ import annotations

import pytest

from control.call_table import END_REASONS
from control.outcomes import OUTCOMES, of_sip, of_twilio


@pytest.mark.parametrize(
    ("status", "phrase", "reason", "known"),
    [
        (403, "No outbound voice profile assigned D38", "", "no_outbound_voice_profile"),
        (403, "Forbidden", 'Q.850;cause=21;text="Profile missing D7"', "no_outbound_voice_profile"),
        (403, "User channel limit exceeded D1", "", "carrier_channel_limit"),
        (403, "D13 disabled", "", "carrier_connection_disabled"),
        (402, "D19", "", "carrier_billing"),
        (480, "No destination D21", "", "number_unreachable"),
        (403, "D26", "", "carrier_authentication_failed"),
        (403, "Caller Origination Number is Invalid D35", "", "caller_id_refused"),
        (403, "D41", "", "carrier_fraud_block"),
        (403, "D61", "", "carrier_account_level"),
        (480, "User not registered RG1", "", "number_unreachable"),
        (403, "Forbidden", "", "carrier_refused"),
        (403, "what about D999", "", "carrier_refused"),
        (486, "Busy Here", "", "callee_busy"),
        (600, "Busy Everywhere", "", "callee_busy"),
        (603, "Decline", "", "callee_declined"),
        (480, "Temporarily Unavailable", "", "no_answer"),
        (487, "Request Terminated", "", "no_answer"),
        (404, "Not Found", "", "number_unreachable"),
        (407, "Proxy Authentication Required", "", "carrier_authentication_failed"),
        (488, "Not Acceptable Here", "", "media_refused"),
        (302, "Moved Temporarily", "", "callee_redirected"),
        (503, "Service Unavailable", "", "carrier_unavailable"),
    ],
)
def test_a_final_response_has_its_reason_and_says_it(status: int, phrase: str, reason: str, known: str) -> None:
    """Trouble elsewhere: "ready" in the UI, but no outbound voice profile (D38)."""
    found, words = of_sip(status, phrase, reason)
    assert found == known
    assert words.startswith(f"{status} {phrase}")
    assert OUTCOMES[known] in words


def test_d38_tells_what_to_do_about_it() -> None:
    assert "assign an outbound voice profile" in of_sip(403, "No outbound voice profile assigned D38")[1]


@pytest.mark.parametrize(
    ("status", "code", "known"),
    [
        ("busy", None, "callee_busy"),
        ("no-answer", None, "no_answer"),
        ("failed", None, "number_unreachable"),
        ("", "21210", "caller_id_refused"),
        ("", "21211", "number_unreachable"),
        ("", "20003", "carrier_authentication_failed"),
        ("", "21215", "carrier_account_level"),
        ("strange", None, "carrier_refused"),
    ],
)
def test_twilios_words_have_theirs(status: str, code: str | None, known: str) -> None:
    found, words = of_twilio(status, code)
    assert found == known
    assert OUTCOMES[known] in words


def test_every_outcome_is_an_end_reason() -> None:
    assert set(OUTCOMES) <= set(END_REASONS)
