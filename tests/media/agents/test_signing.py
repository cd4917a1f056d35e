"""What an agent is sent to know the edge by, and that a verifier written by its description agrees."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from media.agents.signing import request_headers, signature
from media.messages import AgentSpec, Request
from tests.media.rooms import open_call

URL = "wss://agent.example.com/media?v=1"
SID = "CA" + "1" * 32


def spec(**fields: object) -> AgentSpec:
    return AgentSpec(protocol="twilio-media-streams", url=URL, **fields)  # type: ignore[arg-type]


def headers(**fields: object) -> dict[str, str]:
    return dict(request_headers(spec(**fields), SID, "GET", URL, 1_790_000_000.9))


def test_the_records_headers_go_along() -> None:
    assert headers(headers={"Authorization": "Bearer t"}) == {"Authorization": "Bearer t", "X-Truedy-Call-Sid": SID}


def test_a_request_is_signed_over_time_method_url_and_call() -> None:
    sent = headers(signing_secrets=("s3cret",))
    assert sent["X-Truedy-Timestamp"] == "1790000000"
    text = f"1790000000.GET.{URL}.{SID}"
    assert sent["X-Truedy-Signature"] == hmac.new(b"s3cret", text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        ("t", 1, "GET", URL, SID),
        ("s", 2, "GET", URL, SID),
        ("s", 1, "POST", URL, SID),
        ("s", 1, "GET", URL + "x", SID),
        ("s", 1, "GET", URL, SID + "x"),
    ],
)
def test_whatever_changes_the_signature_does(other: tuple[str, int, str, str, str]) -> None:
    assert signature(*other) != signature("s", 1, "GET", URL, SID)


def test_after_a_new_secret_both_sign() -> None:
    old = headers(signing_secrets=("old",))["X-Truedy-Signature"]
    new = headers(signing_secrets=("new",))["X-Truedy-Signature"]
    assert headers(signing_secrets=("new", "old"))["X-Truedy-Signature"] == f"{new},{old}"


def test_twilios_own_validator_takes_its_form() -> None:
    from twilio.request_validator import RequestValidator

    sent = headers(twilio_auth_token="chosen")["X-Twilio-Signature"]
    assert RequestValidator("chosen").validate(URL, {}, sent)
    assert not RequestValidator("other").validate(URL, {}, sent)


def test_no_repr_shows_what_is_secret() -> None:
    armed = spec(headers={"Authorization": "planted"}, signing_secrets=("planted",), twilio_auth_token="planted")
    request = Request(request_id=1, deadline_s=1.0, body=open_call("c", 2, None, armed))
    assert "planted" not in repr(armed)
    assert "planted" not in repr(request)
