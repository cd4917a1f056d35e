"""Which TwiML a live call takes, and how the rest is refused."""

from __future__ import annotations

import pytest

from control.instructions import Dial, Digits, HangUp, InstructionsError, Pause, read


def test_the_verbs_are_read_in_order() -> None:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><Response><Play digits="1wW#"/><Pause/><Pause length="5"/>'
        '<Dial callerId="+14155550100" timeout="20"><Number>+1 415 555 0123</Number></Dial><Hangup/></Response>'
    )
    assert read(text) == (Digits("1www#"), Pause(1.0), Pause(5.0), Dial("+14155550123"), HangUp())


def test_a_number_may_stand_in_dial_itself() -> None:
    assert read("<Response><Dial>+14155550123</Dial></Response>") == (Dial("+14155550123"),)


def test_a_sip_uri_may_be_dialled() -> None:
    found = read("<Response><Dial><Sip>sip:desk@pbx.example.com;transport=tls</Sip></Dial></Response>")
    assert found == (Dial("sip:desk@pbx.example.com;transport=tls"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no XML"),
        ("<Response>", "is no XML"),
        ("<Response/>", "has no verb"),
        ("<Answer><Hangup/></Answer>", "no <Response>"),
        ("<Response><Say>Hello</Say></Response>", "<Say> is not taken"),
        ("<Response><Play>https://example.com/a.mp3</Play></Response>", "no URL"),
        ('<Response><Play digits="1;DROP"/></Response>', "other characters"),
        (f'<Response><Play digits="{"1" * 101}"/></Response>', "more than 100"),
        ('<Response><Pause length="0"/></Response>', "from 1 to 60"),
        ('<Response><Pause length="-1"/></Response>', "from 1 to 60"),
        ('<Response><Pause length="61"/></Response>', "from 1 to 60"),
        ('<Response><Pause length="١"/></Response>', "from 1 to 60"),
        ("<Response><Dial/></Response>", "no number"),
        ("<Response><Dial>tomorrow</Dial></Response>", "no number"),
        ("<Response><Dial><Conference>room</Conference></Dial></Response>", "<Conference> in <Dial>"),
        (
            "<Response><Dial><Number>+1</Number><Number>+2</Number></Dial></Response>",
            "several nouns",
        ),
        ("<Response><Dial><Sip>sip:a@b?X-Evil=1</Sip></Dial></Response>", "SIP URI"),
        ("<Response><Dial><Sip>http://b/</Sip></Dial></Response>", "SIP URI"),
        (f"<Response>{'<Pause/>' * 21}</Response>", "more than 20 verbs"),
        (f"<Response><Dial>{'1' * 4000}</Dial></Response>", "more than 4000 bytes"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><Response><Dial>&b;</Dial></Response>', "document type"),
    ],
)
def test_anything_else_is_refused_and_named(text: str, problem: str) -> None:
    with pytest.raises(InstructionsError, match=problem):
        read(text)
