"""What an agreement makes of payloads."""

from __future__ import annotations

from media.agents.base import Encoding
from media.codecs.opus import OpusConcealer
from media.concealment import Concealer
from media.sdp import Codec, Direction, Negotiated
from media.wire import Clock, Wire
from tests.support.opus import needs_opus

MU, A = Codec("PCMU", 0, 0), Codec("PCMA", 8, 8)
G722, OPUS = Codec("G722", 9, 9), Codec("OPUS", 111, 96, 48000, "useinbandfec=1")


def wire(encoding: Encoding, *codecs: Codec, onto: Wire | None = None) -> Wire:
    made = onto or Wire(encoding)
    made.agree(Negotiated(b"", None, codecs[0], codecs, None, 20, Direction.SENDRECV, held=False))
    return made


def test_either_law_passes_a_leg_of_g711_as_bytes() -> None:
    made = wire("PCMU", MU, A)
    assert (made.laws, made.readers, made.writer, made.clock) == ({0: "PCMU", 8: "PCMA"}, {}, None, None)
    assert isinstance(made.concealer, Concealer)


def test_in_a_wide_leg_every_codec_is_read_and_written() -> None:
    made = wire("L16/16000", G722, MU)
    assert made.laws == {}
    assert {number: reader.name for number, reader in made.readers.items()} == {9: "G722", 0: "PCMU"}
    assert made.writer is not None and made.writer.name == "G722"
    assert made.clock_rate_hz == 8000


def test_a_codec_that_stays_keeps_its_state_over_a_refresh() -> None:
    made = wire("L16/16000", G722)
    reader, writer, concealer = made.readers[9], made.writer, made.concealer
    wire("L16/16000", G722, onto=made)
    assert (made.readers[9], made.writer, made.concealer) == (reader, writer, concealer)


@needs_opus
def test_opus_has_its_own_clock_and_conceals_by_itself() -> None:
    made = wire("L16/16000", OPUS)
    assert made.clock is not None and made.clock.scale == 6
    assert made.clock_rate_hz == 48000
    reader = made.readers[96]
    assert isinstance(made.concealer, OpusConcealer) and made.concealer.decoder is reader.decoder
    assert made.units(reader, 4_294_967_000) == 0
    assert made.units(reader, 4_294_967_000 + 960 - 2**32) == 160
    made.begin_source()
    assert isinstance(made.concealer, OpusConcealer)
    assert made.concealer.decoder is made.readers[96].decoder is not reader.decoder


@needs_opus
def test_opus_in_a_leg_of_g711_and_back() -> None:
    """A re-INVITE changes the codec: the leg's encoding stays, what comes is converted."""
    made = wire("PCMU", MU)
    wire("PCMU", OPUS, onto=made)
    assert made.laws == {} and isinstance(made.concealer, Concealer)
    assert made.writer is not None and made.writer.name == "OPUS"
    wire("PCMU", MU, onto=made)
    assert made.writer is None and made.laws == {0: "PCMU"}


@needs_opus
def test_a_change_from_opus_to_g722_changes_the_concealment() -> None:
    made = wire("L16/16000", OPUS)
    wire("L16/16000", G722, onto=made)
    assert isinstance(made.concealer, Concealer)


def test_a_clock_follows_timestamps_over_their_end_and_back() -> None:
    clock = Clock(6)
    assert [clock.units(each & 0xFFFFFFFF) for each in (-960, 0, 960, -960, 1920)] == [0, 160, 320, 0, 480]
    assert clock.units((1920 - 960 * 10) & 0xFFFFFFFF) == (480 - 1600) & 0xFFFFFFFF
