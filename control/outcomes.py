"""What a carrier's refusal of our call means: final statuses, Telnyx's D-codes, Twilio's statuses, in our words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["OUTCOMES", "of_sip", "of_twilio"]

OUTCOMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "callee_busy": "the callee is busy",
        "callee_declined": "the callee declined the call",
        "no_answer": "nobody answered in time",
        "number_unreachable": "the carrier knows no such number, or no way to it",
        "callee_hung_up": "the callee hung up",
        "carrier_refused": "the carrier refused the call",
        "carrier_unavailable": "the carrier did not answer, or has no capacity",
        "carrier_authentication_failed": "the carrier does not take the connection's credentials",
        "carrier_channel_limit": "the carrier's limit on calls at once is reached",
        "carrier_connection_disabled": "the carrier has switched the connection or its voice profile off",
        "carrier_billing": "the carrier has blocked the account over its balance",
        "no_outbound_voice_profile": "the Telnyx connection has no outbound voice profile",
        "caller_id_refused": "the carrier does not take the number called from as the account's own",
        "carrier_fraud_block": "the carrier takes the destination for fraud",
        "carrier_account_level": "the carrier's account level does not allow such calls",
        "callee_redirected": "the carrier answered with another destination, which is never followed",
        "transferred_call_ended": "the call whose caller was transferred ended",
        "moved_out_of_sight": "a caller whom a carrier had moved was not heard of any more",
        "transfer_failed": "the second leg of a transfer was not joined",
        "media_refused": "the carrier takes none of the codecs or addresses offered",
    }
)
"""The ways an outgoing call ends before it is established, beside those of every call."""

_D_CODE: Final = re.compile(r"\b(D[0-9]{1,3}|RG1)\b")

_BY_D_CODE: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("D1", "D2", "D3", "D22"), "carrier_channel_limit"),
        **dict.fromkeys(("D7", "D38"), "no_outbound_voice_profile"),
        **{f"D{number}": "carrier_connection_disabled" for number in range(10, 19)},
        "D19": "carrier_billing",
        "D21": "number_unreachable",
        **{f"D{number}": "carrier_authentication_failed" for number in range(25, 30)},
        **dict.fromkeys(("D35", "D36", "D51"), "caller_id_refused"),
        "D41": "carrier_fraud_block",
        **dict.fromkeys(("D60", "D61"), "carrier_account_level"),
        "RG1": "number_unreachable",
    }
)

_ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "no_outbound_voice_profile": "assign an outbound voice profile to the connection in Telnyx's portal",
        "carrier_channel_limit": "wait for calls to end, or raise the limit at the carrier",
        "carrier_connection_disabled": "switch the connection and its outbound voice profile on",
        "carrier_billing": "look at the balance of the carrier's account",
        "carrier_authentication_failed": "save the connection's password again",
        "caller_id_refused": "call from a number that is verified at the carrier",
        "carrier_account_level": "verify the account at the carrier",
    }
)

_BY_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {
        **dict.fromkeys((401, 407), "carrier_authentication_failed"),
        **dict.fromkeys((404, 410, 484, 604), "number_unreachable"),
        **dict.fromkeys((408, 480, 487), "no_answer"),
        **dict.fromkeys((486, 600), "callee_busy"),
        **dict.fromkeys((488, 606), "media_refused"),
        603: "callee_declined",
    }
)


def of_sip(status: int, phrase: str, reason: str = "") -> tuple[str, str]:
    """``end_reason`` and words for a final response; ``reason`` is its Reason header (RFC 3326)."""
    found = _D_CODE.search(phrase) or _D_CODE.search(reason)
    known = _BY_D_CODE.get(found[1]) if found else None
    if known is None:
        known = _BY_STATUS.get(status) or _by_class(status)
    words = f"{status} {phrase}".strip()
    advice = _ADVICE.get(known)
    return known, f"{words}: {OUTCOMES[known]}" + (f"; {advice}" if advice else "")


def _by_class(status: int) -> str:
    if status // 100 == 3:
        return "callee_redirected"
    return "carrier_unavailable" if status // 100 == 5 else "carrier_refused"


_BY_TWILIO: Final[Mapping[str, str]] = MappingProxyType(
    {"busy": "callee_busy", "no-answer": "no_answer", "failed": "number_unreachable", "canceled": "no_answer"}
)

_BY_TWILIO_CODE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "20003": "carrier_authentication_failed",
        "20429": "carrier_channel_limit",
        "21210": "caller_id_refused",
        "21211": "number_unreachable",
        "21215": "carrier_account_level",
        "21219": "carrier_account_level",
    }
)


def of_twilio(status: str = "", code: str | None = None) -> tuple[str, str]:
    """The same for a call's status (``busy``, ``no-answer``, ``failed``) or an error's code."""
    known = _BY_TWILIO_CODE.get(code or "") or _BY_TWILIO.get(status, "carrier_refused")
    words = f"Twilio says {status or 'no'}" + (f" (error {code})" if code else "")
    advice = _ADVICE.get(known)
    return known, f"{words}: {OUTCOMES[known]}" + (f"; {advice}" if advice else "")
