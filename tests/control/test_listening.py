"""What is to listen in on a call."""

from __future__ import annotations

from dataclasses import replace

from config.settings import MachineDetection, Recording
from control.listening import RecordingChoice, detection_order, recording_choice
from control.registry.types import Agent, Number
from media.messages import DetectionOrder

AGENT = Agent("g", "a", "Agent", {}, 0.0, 0.0)
NUMBER = Number("n", "a", "+1", "+1", "sip", "lab", "active", 0.0, 0.0)


def test_without_a_wish_a_call_is_recorded_as_the_edge_has_it() -> None:
    settings = Recording(enabled=True, format="ogg", consent_tone=False, consent_tone_every_s=15.0)
    choice = RecordingChoice(enabled=True, format="ogg", consent_tone=False, consent_tone_every_s=15.0)
    assert recording_choice(settings, AGENT, NUMBER) == choice
    assert not recording_choice(Recording(), AGENT, NUMBER).enabled


def test_the_agent_the_number_and_the_call_each_override_what_comes_before() -> None:
    agent = replace(AGENT, options='{"recording":{"enabled":true,"format":"wav"}}')
    number = replace(NUMBER, options='{"recording":{"format":"ogg"}}')
    assert recording_choice(Recording(), agent, NUMBER).format == "wav"
    assert recording_choice(Recording(), agent, number) == RecordingChoice(
        enabled=True, format="ogg", consent_tone=True, consent_tone_every_s=None
    )
    assert recording_choice(Recording(), AGENT, NUMBER, wish=True).enabled
    assert not recording_choice(Recording(), agent, number, wish=False).enabled


def test_other_options_are_none_of_recordings_business() -> None:
    assert not recording_choice(Recording(), replace(AGENT, options='{"amd":{"enabled":true}}'), NUMBER).enabled


def test_who_answered_is_told_where_the_agent_or_else_the_edge_wants_it() -> None:
    assert detection_order(MachineDetection(), AGENT) is None
    assert detection_order(MachineDetection(enabled=True, timeout_s=4.0), AGENT) == DetectionOrder(timeout_s=4.0)
    wants = replace(AGENT, options='{"machine_detection":{"enabled":true,"beep_timeout_s":20.0}}')
    assert detection_order(MachineDetection(), wants) == DetectionOrder(beep_timeout_s=20.0)
    refuses = replace(AGENT, options='{"machine_detection":{"enabled":false}}')
    assert detection_order(MachineDetection(enabled=True), refuses) is None
