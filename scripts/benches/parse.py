"""``parse``: an INVITE as Telnyx sends it, and its 200."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge.message import Request, parse, response_to

from .machine import EDGE_CORE, pinned
from .report import Goal, Report

__all__ = ["INVITE", "SDP", "bench"]

GOAL = Goal(15.0, 8.0)

INVITE = (
    b"INVITE sip:12014269044@203.0.113.5:5060;transport=udp SIP/2.0\r\n"
    b"Record-Route: <sip:64.16.250.10;r2=on;lr;ftag=as7d8f>\r\n"
    b"Record-Route: <sip:10.255.0.2;r2=on;lr;ftag=as7d8f>\r\n"
    b"Record-Route: <sip:10.231.83.184:6050;lr;tnx=kdjf83>\r\n"
    b"Via: SIP/2.0/UDP 64.16.250.10;branch=z9hG4bK4a5f.7ed3a0b1.0\r\n"
    b"Via: SIP/2.0/UDP 10.231.83.184:6050;branch=z9hG4bK4a5f.11\r\n"
    b"v:SIP/2.0/UDP 10.231.91.24:6000;received=10.231.91.24;rport=6000;branch=z9hG4bKX9\r\n"
    b"Max-Forwards:24\r\n"
    b'f:"919113162180"<sip:919113162180@sip.telnyx.com>;tag=0e7XmcQKp\r\n'
    b"t:<sip:12014269044@10.231.83.184>\r\n"
    b"i:70f83b11-5dd1-123d-2e8c-0242ac110003\r\nCSeq:115676495 INVITE\r\n"
    b"m:<sip:mod_sofia@10.231.91.24:6000>\r\nUser-Agent:Telnyx SIP\r\n"
    b"Allow:INVITE,ACK,BYE,CANCEL,OPTIONS,MESSAGE,INFO,UPDATE,REGISTER,REFER,NOTIFY\r\n"
    b"k:timer,path\r\nu:talk,hold,conference,refer\r\nc:application/sdp\r\n"
    b"X-Telnyx-Session-ID:e2e1c6ba-0000-11ef-9a7c-02420aef4f1a\r\n"
    b'P-Asserted-Identity:"919113162180"<sip:919113162180@sip.telnyx.com;verstat=TN-Validation-Passed-C>\r\n'
    b"l:%d\r\n\r\n%b"
)
SDP = (
    b"v=0\r\no=Telnyx 1 2 IN IP4 103.115.244.150\r\ns=Telnyx\r\nc=IN IP4 103.115.244.150\r\nt=0 0\r\n"
    b"m=audio 19888 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n"
)


def bench(report: Report, quick: bool) -> None:
    """The best of many rounds: what else the machine does only adds."""
    data = INVITE % (len(SDP), SDP)

    def once() -> bytes:
        message = parse(data)
        if not isinstance(message, Request):
            raise TypeError
        headers = [("Contact", "<sip:203.0.113.5:5060>"), ("Content-Type", "application/sdp")]
        return bytes(response_to(message, 200, to_tag="a8f3", headers=headers, body=SDP))

    with pinned(EDGE_CORE):
        best = min(_timed(once, 2000) for _ in range(10 if quick else 40))
    report.add("parse", f"parse an INVITE of {len(data)} bytes and build its 200", best * 1e6, "µs", GOAL)


def _timed(work: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - began) / count
