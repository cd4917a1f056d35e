"""What proves to an agent that a request is the edge's: the record's headers, and signatures over each request.

``X-Truedy-Signature`` is the hexadecimal HMAC-SHA256 of

    TIMESTAMP.METHOD.URL.CALL

with ``X-Truedy-Timestamp`` (UTC seconds), the request's method (``GET`` for a WebSocket), the URL as it stands on the
agent's record, and ``X-Truedy-Call-Sid``. After a new secret was made there are two for a while, with a comma between.

``X-Twilio-Signature`` is Twilio's own, over the URL alone, with a token that the agent's owner chose:
https://www.twilio.com/docs/usage/security#validating-requests
"""

from __future__ import annotations

import hmac
from binascii import b2a_base64
from hashlib import sha1, sha256
from typing import Final

from media.messages import AgentSpec
from media.websocket import Headers

__all__ = ["CALL_SID", "SIGNATURE", "TIMESTAMP", "TWILIO_SIGNATURE", "request_headers", "signature"]

SIGNATURE: Final = "X-Truedy-Signature"
TIMESTAMP: Final = "X-Truedy-Timestamp"
CALL_SID: Final = "X-Truedy-Call-Sid"
TWILIO_SIGNATURE: Final = "X-Twilio-Signature"


def signature(secret: str, timestamp: int, method: str, url: str, call_sid: str) -> str:
    """Over one request; the secret's UTF-8 bytes are the key."""
    return hmac.new(secret.encode(), f"{timestamp}.{method}.{url}.{call_sid}".encode(), sha256).hexdigest()


def request_headers(spec: AgentSpec, call_sid: str, method: str, url: str, at: float) -> Headers:
    """All headers of a request to ``url`` at ``at`` (UTC [s])."""
    headers = [*spec.headers.items(), (CALL_SID, call_sid)]
    if spec.signing_secrets:
        timestamp = int(at)
        signatures = [signature(secret, timestamp, method, url, call_sid) for secret in spec.signing_secrets]
        headers += [(TIMESTAMP, str(timestamp)), (SIGNATURE, ",".join(signatures))]
    if spec.twilio_auth_token is not None:
        digest = hmac.new(spec.twilio_auth_token.encode(), url.encode(), sha1).digest()
        headers.append((TWILIO_SIGNATURE, b2a_base64(digest, newline=False).decode()))
    return tuple(headers)
