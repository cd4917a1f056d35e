"""The TwiML documents, as a parser reads them."""

from __future__ import annotations

from xml.etree import ElementTree

from control import twiml

LEG = twiml.Dial(
    uri="sip:+14155550100@sip.example.test;transport=tls?X-Truedy-Token=abc&X-Other=1",
    username="cUser",
    password="pa<ss&word",
    timeout_s=20,
    action="https://api.example.test/telephony/inbound/twilio/dial-status",
    time_limit_s=14400,
)


def test_a_leg_to_the_edge_rings_until_the_agent_answers() -> None:
    dial = ElementTree.fromstring(twiml.dial(LEG)).find("Dial")
    assert dial is not None
    assert dial.attrib == {
        "answerOnBridge": "true",
        "timeout": "20",
        "timeLimit": "14400",
        "action": LEG.action,
        "method": "POST",
    }
    sip = dial.find("Sip")
    assert sip is not None
    assert sip.text == LEG.uri
    assert sip.attrib == {"username": "cUser", "password": "pa<ss&word"}


def test_the_other_documents_hold_one_verb_each() -> None:
    for document, verbs in (
        (twiml.reject(), ["Reject"]),
        (twiml.hang_up(), ["Hangup"]),
        (twiml.empty(), []),
        (twiml.say_and_hang_up("Sorry <all>"), ["Say", "Hangup"]),
    ):
        root = ElementTree.fromstring(document)
        assert root.tag == "Response"
        assert [verb.tag for verb in root] == verbs


async def test_the_writer_can_be_imported_beforehand() -> None:
    await twiml.prepare()
    assert twiml.empty().endswith("<Response />")


def test_secrets_stay_out_of_sight() -> None:
    assert "pa<ss" not in repr(LEG)
    assert "Token" not in repr(LEG)


def test_a_caller_goes_on_to_a_number_or_a_sip_uri() -> None:
    for kind, tag, target in (("number", "Number", "+14155550123"), ("sip", "Sip", "sip:a@b.example")):
        leg = twiml.Onward(target, kind, "+14155550100", "https://edge.test/moved", 60, "https://edge.test/status")
        dial = ElementTree.fromstring(twiml.onward(leg)).find("Dial")
        assert dial is not None
        assert (dial.findtext(tag), dial.attrib["callerId"], dial.attrib["timeLimit"]) == (target, "+14155550100", "60")
