"""Twilio Media Streams, spoken to an agent's own WebSocket server as Twilio speaks it.

:class:`Stream` is the protocol without I/O; :class:`TwilioAgent` joins it to a link. JSON text frames,
μ-law 8 kHz in base64: https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import Any, Final

from media.agents.base import Host
from media.agents.media_stream import Clear, Mark, MediaStream, MediaStreamAgent, Play, encode
from media.g711 import PCMU
from media.messages import CallContext

__all__ = ["Clear", "Mark", "Play", "Stream", "TwilioAgent"]

CONNECTED: Final = encode({"event": "connected", "protocol": "Call", "version": "1.0.0"})


class Stream(MediaStream):
    """One call's stream.

    ``sequenceNumber`` counts the messages as they are sent, from ``start`` on. ``stream_sid`` is
    ``MZ`` and 32 hexadecimal digits.
    """

    __slots__ = ("_media_format", "_parameters", "_sequence", "context")

    def __init__(self, stream_sid: str, context: CallContext, parameters: dict[str, str]) -> None:
        super().__init__(stream_sid)
        self.context = context
        self._parameters = parameters
        self._sequence = 0
        sid = stream_sid.encode("ascii").replace(b"%", b"%%")
        self._media_format = (
            b'{"event":"media","sequenceNumber":"%d","streamSid":"' + sid + b'","media":{"track":"inbound",'
            b'"chunk":"%d","timestamp":"%d","payload":"%b"}}'
        )

    def start(self) -> bytes:
        """``start``; the call's own facts cannot be overridden by the agent's parameters."""
        call = self.context
        custom = call.told(self._parameters) | {"from_number": call.from_number, "to_number": call.to_number}
        return self._message(
            "start",
            {
                "streamSid": self.stream_id,
                "accountSid": call.account_sid,
                "callSid": call.call_sid,
                "tracks": ["inbound"],
                "customParameters": custom,
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            },
        )

    def media(self, chunk: int, at_ms: int, audio: bytes) -> bytes:
        """``media``: the caller's μ-law ``at_ms`` [ms] after the start of the call's audio."""
        self._sequence += 1
        return self._media_format % (self._sequence, chunk, at_ms, b2a_base64(audio, newline=False))

    def dtmf(self, digit: str) -> bytes:
        """``dtmf``."""
        return self._message("dtmf", {"track": "inbound_track", "digit": digit})

    def mark(self, name: str) -> bytes:
        """``mark``: playout has reached the agent's mark of that name."""
        return self._message("mark", {"name": name})

    def stop(self) -> bytes:
        """``stop``, the last message."""
        return self._message("stop", {"accountSid": self.context.account_sid, "callSid": self.context.call_sid})

    def _message(self, event: str, body: dict[str, Any]) -> bytes:
        self._sequence += 1
        return encode({"event": event, "sequenceNumber": str(self._sequence), "streamSid": self.stream_id, event: body})


class TwilioAgent(MediaStreamAgent):
    """The agent behind ``spec.url``."""

    def __init__(self, host: Host) -> None:
        """Raises :class:`~media.agents.base.BadAgent` for a URL that is none."""
        stream = Stream("MZ" + host.entropy(16).hex(), host.context, host.spec.parameters)
        super().__init__(host, stream, CONNECTED, PCMU)
