"""What an agent or a number has of its own."""

from __future__ import annotations

from control.resources.options import (
    MachineDetectionOptions,
    RecordingOptions,
    machine_detection_options,
    recording_options,
    with_option,
)


def test_one_option_changes_and_the_others_stay() -> None:
    """None takes it away, and so does one that says nothing."""
    both = with_option("{}", "recording", RecordingOptions(enabled=True))
    both = with_option(both, "machine_detection", MachineDetectionOptions(timeout_s=3.0))
    assert recording_options(both) == RecordingOptions(enabled=True)
    assert machine_detection_options(both) == MachineDetectionOptions(timeout_s=3.0)
    for nothing in (None, RecordingOptions()):
        without = with_option(both, "recording", nothing)
        assert recording_options(without) == RecordingOptions()
        assert machine_detection_options(without) == MachineDetectionOptions(timeout_s=3.0)
