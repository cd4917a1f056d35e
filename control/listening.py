"""What is to listen in on a call: as the edge has it, the agent otherwise, and the number above both."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from config.settings import MachineDetection, Recording
from control.registry.types import Agent, Number
from media.messages import DetectionOrder
from media.recording_file import Format

__all__ = ["RecordingChoice", "detection_order", "recording_choice"]

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class RecordingChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a call is recorded, and how; see :class:`config.settings.Recording`."""

    enabled: bool
    format: Format
    consent_tone: bool
    consent_tone_every_s: float | None


def recording_choice(settings: Recording, agent: Agent, number: Number, wish: bool | None = None) -> RecordingChoice:
    """Whether it is: by the call's own ``wish``, the number's, the agent's, the settings'; how: by the latter three."""
    choice = {name: getattr(settings, name) for name in RecordingChoice.__struct_fields__}
    for options in (agent.options, number.options):
        choice |= _decode(options).get("recording") or {}
    if wish is not None:
        choice["enabled"] = wish
    return msgspec.convert(choice, RecordingChoice)


def detection_order(settings: MachineDetection, agent: Agent) -> DetectionOrder | None:
    """The agent's wish counts more than the settings; None: nobody is to tell who answered."""
    choice = dict(settings) | (_decode(agent.options).get("machine_detection") or {})
    return msgspec.convert(choice, DetectionOrder, strict=False) if choice.pop("enabled") else None
