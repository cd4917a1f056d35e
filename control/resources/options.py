"""What an agent or a number may have otherwise than the edge: recording, and detection of machines."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from pydantic import Field, StrictBool

from control.resources.base import Request

__all__ = [
    "MachineDetectionOptions",
    "RecordingOptions",
    "machine_detection_options",
    "recording_options",
    "with_option",
]


class RecordingOptions(Request):
    """Whether and how calls are recorded. What is absent or null is as the number's agent, or the edge, has it."""

    enabled: StrictBool | None = None
    format: Literal["wav", "flac", "ogg"] | None = None
    consent_tone: StrictBool | None = Field(default=None, description="The caller hears a tone when the call begins.")
    consent_tone_every_s: Annotated[float, Field(ge=5, le=600, strict=True)] | None = Field(
        default=None, description="The tone comes again this often [s]."
    )


class MachineDetectionOptions(Request):
    """Whether the agent is told who answered. What is absent or null is as the edge has it."""

    enabled: StrictBool | None = None
    timeout_s: Annotated[float, Field(ge=2, le=30, strict=True)] | None = Field(
        default=None, description="What is not clear by then [s] is `unsure`."
    )
    beep_timeout_s: Annotated[float, Field(ge=5, le=180, strict=True)] | None = Field(
        default=None, description="How long a machine's beep is listened for [s]."
    )


def with_option(options: str, name: str, choice: RecordingOptions | MachineDetectionOptions | None) -> str:
    """An agent's or a number's ``options`` with another choice of what is called ``name``; None: none of its own."""
    changed = {other: value for other, value in msgspec.json.decode(options).items() if other != name}
    if choice is not None and (chosen := choice.model_dump(exclude_none=True)):
        changed[name] = chosen
    return msgspec.json.encode(changed).decode()


def machine_detection_options(options: str) -> MachineDetectionOptions:
    """What an agent has of its own."""
    return MachineDetectionOptions.model_validate(msgspec.json.decode(options).get("machine_detection", {}))


def recording_options(options: str) -> RecordingOptions:
    """What an agent or a number has of its own."""
    return RecordingOptions.model_validate(msgspec.json.decode(options).get("recording", {}))
