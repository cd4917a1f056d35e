"""Telnyx's media streaming, spoken to an agent's own WebSocket server as Telnyx speaks it (bidirectional RTP mode).

:class:`Stream` is the protocol without I/O; :class:`TelnyxAgent` joins it to a link. JSON text frames, G.711 8 kHz
in base64: https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import Any, Final, cast
from uuid import UUID

from media.agents.base import BadAgent, Encoding, Host
from media.agents.media_stream import MediaStream, MediaStreamAgent, encode
from media.g711 import PCMA, PCMU
from media.messages import CallContext

__all__ = ["Stream", "TelnyxAgent"]

CONNECTED: Final = encode({"event": "connected", "version": "1.0.0"})


class Stream(MediaStream):
    """One call's stream.

    ``sequence_number`` counts the messages as they are sent, from ``start`` on. ``law`` is ``PCMU`` or ``PCMA``.
    """

    __slots__ = ("_law", "_media_format", "_parameters", "_sequence", "context")

    def __init__(self, stream_id: str, context: CallContext, parameters: dict[str, str], law: str = PCMU) -> None:
        super().__init__(stream_id)
        self.context = context
        self._law = law
        self._parameters = parameters
        self._sequence = 0
        id = stream_id.encode("ascii").replace(b"%", b"%%")
        self._media_format = (
            b'{"event":"media","sequence_number":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d",'
            b'"payload":"%b"},"stream_id":"' + id + b'"}'
        )

    def start(self) -> bytes:
        """``start``: the ids are the call's own, in place of those that Telnyx gives."""
        call = self.context
        return self._message(
            "start",
            {
                "user_id": call.account_sid,
                "call_control_id": call.call_sid,
                "call_session_id": call.call_id or call.call_sid,
                "from": call.from_number,
                "to": call.to_number,
                "custom_parameters": call.told(self._parameters),
                "media_format": {"encoding": self._law, "sample_rate": 8000, "channels": 1},
            },
        )

    def media(self, chunk: int, at_ms: int, audio: bytes) -> bytes:
        """``media``: the caller's audio ``at_ms`` [ms] after the start of the call's audio."""
        self._sequence += 1
        return self._media_format % (self._sequence, chunk, at_ms, b2a_base64(audio, newline=False))

    def dtmf(self, digit: str) -> bytes:
        """``dtmf``, without the time of day that Telnyx adds."""
        return self._message("dtmf", {"digit": digit})

    def mark(self, name: str) -> bytes:
        """``mark``: playout has reached the agent's mark of that name."""
        return self._message("mark", {"name": name})

    def stop(self) -> bytes:
        """``stop``, the last message."""
        return self._message("stop", {"user_id": self.context.account_sid, "call_control_id": self.context.call_sid})

    def _message(self, event: str, body: dict[str, Any]) -> bytes:
        self._sequence += 1
        return encode(
            {"event": event, "sequence_number": str(self._sequence), event: body, "stream_id": self.stream_id}
        )


class TelnyxAgent(MediaStreamAgent):
    """The agent behind ``spec.url``; ``spec.encoding`` is ``PCMU`` (Telnyx's own choice too) or ``PCMA``."""

    def __init__(self, host: Host) -> None:
        """Raises :class:`BadAgent` for a URL that is none, or another encoding."""
        law = host.spec.encoding or PCMU
        if law not in (PCMU, PCMA):
            raise BadAgent("telnyx-media-streaming carries PCMU or PCMA")
        stream = Stream(str(UUID(bytes=host.entropy(16))), host.context, host.spec.parameters, law)
        super().__init__(host, stream, CONNECTED, cast(Encoding, law))
