"""The formats as SDP names them."""

from __future__ import annotations

from media.formats import FORMATS, telephone_event


def test_every_format_has_its_rtpmap() -> None:
    """RFC 3551 §6, RFC 7587 §7."""
    assert {name: format.rtpmap for name, format in FORMATS.items()} == {
        "PCMU": "PCMU/8000",
        "PCMA": "PCMA/8000",
        "G722": "G722/8000",
        "OPUS": "opus/48000/2",
    }


def test_no_two_formats_prefer_the_same_payload_type() -> None:
    numbers = [format.payload_type for format in FORMATS.values()]
    numbers += [telephone_event(rate).payload_type for rate in (8000, 48000)]
    assert len(set(numbers)) == len(numbers)
    assert all(96 <= FORMATS["OPUS"].payload_type < 128 for _ in (0,))
