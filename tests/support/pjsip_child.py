"""PJSIP (pjsua2) as a phone in a process of its own; never imported by the product or by a test.

A line of JSON on standard input is a command; a line on standard output that starts with ``@`` is an event; the
rest is PJSIP's log. One ``Endpoint`` a process, at most four calls, and no object is ever dropped: the wrapper's
callbacks into a collected object crash.

usage: python pjsip_child.py FOLDER TRANSPORT [AUTHORITY CERTIFICATE KEY]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pjsua2 as pj

folder, transport = Path(sys.argv[1]), sys.argv[2]
codec_name, suite = os.environ["PJSIP_CODEC"], os.environ["PJSIP_SUITE"]
tls_files = sys.argv[3:]
phones: list[Phone] = []


def say(event: str, **fields: object) -> None:
    """One event to the test."""
    os.write(1, f"\n@{json.dumps({'event': event, **fields})}\n".encode())


class Phone(pj.Call):  # type: ignore[misc]
    """One call: plays say.wav, records heard-N.wav, tells its states and digits."""

    def __init__(self, account: pj.Account, call_id: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(account, call_id)
        self.number = len(phones)
        phones.append(self)
        self.player = pj.AudioMediaPlayer()
        self.player.createPlayer(str(folder / "say.wav"), pj.PJMEDIA_FILE_NO_LOOP)
        self.recorder = pj.AudioMediaRecorder()
        self.recorder.createRecorder(str(folder / f"heard-{self.number}.wav"))

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        say("state", call=self.number, state=info.stateText, status=info.lastStatusCode, reason=info.lastReason)

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        try:
            self.connect_audio()
        except pj.Error as error:
            say("error", text=error.info())

    def connect_audio(self) -> None:
        """Player to the call, call to the recorder; again after each re-INVITE, which makes a new stream."""
        info = self.getInfo()  # its parts are freed with it
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                audio = self.getAudioMedia(index)
                self.player.startTransmit(audio)
                audio.startTransmit(self.recorder)
                say("media", call=self.number)

    def onDtmfDigit(self, prm: pj.OnDtmfDigitParam) -> None:
        say("digit", call=self.number, digit=prm.digit)

    def onCallTransferRequest(self, prm: pj.OnCallTransferRequestParam) -> None:
        prm.newCall = Phone(account)  # PJSIP calls the target, and tells how it goes


class Account(pj.Account):  # type: ignore[misc]
    """The one account; it answers where it is told to."""

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        parameters = settings()
        parameters.statusCode = 200 if os.environ["PJSIP_ANSWERS"] == "1" else 486
        Phone(self, prm.callId).answer(parameters)


def start() -> tuple[pj.Endpoint, pj.Account, int]:
    """The library, its one transport and its one account; the port that it listens on."""
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 1
    config.uaConfig.userAgent = "pjsip"
    config.logConfig.level = config.logConfig.consoleLevel = 4
    config.logConfig.msgLogging = 1
    rate = 16000 if codec_name == "G722" else 8000
    config.medConfig.clockRate = config.medConfig.sndClockRate = rate
    config.medConfig.noVad = True
    config.medConfig.ecTailLen = 0
    endpoint.libInit(config)
    endpoint.audDevManager().setNullDev()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith(codec_name) else 0)
    options = pj.TransportConfig()
    options.boundAddress = "127.0.0.1"
    options.publicAddress = "127.0.0.1"
    if transport == "tls":
        options.tlsConfig.CaListFile, options.tlsConfig.certFile, options.tlsConfig.privKeyFile = tls_files
        options.tlsConfig.method = pj.PJSIP_TLSV1_2_METHOD
        options.tlsConfig.verifyServer = True
    kind = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS}[transport]
    number = endpoint.transportCreate(kind, options)
    endpoint.libStart()
    account_config = pj.AccountConfig()
    account_config.idUri = "sip:pjsip@127.0.0.1"
    account_config.sipConfig.transportId = number
    account_config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    account_config.mediaConfig.transportConfig.publicAddress = "127.0.0.1"
    account_config.mediaConfig.transportConfig.port = int(os.environ["PJSIP_RTP_PORT"])
    if "PJSIP_PRACK" in os.environ:
        account_config.callConfig.prackUse = pj.PJSUA_100REL_MANDATORY
    if "PJSIP_SESSION_S" in os.environ:
        account_config.callConfig.timerUse = pj.PJSUA_SIP_TIMER_ALWAYS
        account_config.callConfig.timerSessExpiresSec = int(os.environ["PJSIP_SESSION_S"])
    account_config.mediaConfig.rtcpMuxEnabled = os.environ["PJSIP_RTCP_MUX"] == "1"
    if suite:
        opportunistic = os.environ["PJSIP_OPPORTUNISTIC"] == "1"
        account_config.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_OPTIONAL if opportunistic else pj.PJMEDIA_SRTP_MANDATORY
        account_config.mediaConfig.srtpSecureSignaling = 0
        crypto = pj.SrtpCrypto()
        crypto.name = suite
        account_config.mediaConfig.srtpOpt.cryptos.append(crypto)
        account_config.mediaConfig.srtpOpt.keyings.append(pj.PJMEDIA_SRTP_KEYING_SDES)
    if "PJSIP_USER" in os.environ:
        credentials = pj.AuthCredInfo("digest", "*", os.environ["PJSIP_USER"], 0, os.environ["PJSIP_PASSWORD"])
        account_config.sipConfig.authCreds.append(credentials)
    account = Account()
    account.create(account_config)
    return endpoint, account, int(endpoint.transportGetInfo(number).localName.rpartition(":")[2])


def settings(audio: bool = True) -> pj.CallOpParam:
    """With audio and nothing else."""
    parameters = pj.CallOpParam(True)
    parameters.opt.audioCount, parameters.opt.videoCount = int(audio), 0
    return parameters


def obey(account: pj.Account, command: dict[str, Any]) -> None:
    """One command of the test."""
    match command["do"]:
        case "dial":
            parameters = settings()
            if not command["offer"]:
                parameters.opt.flag |= pj.PJSUA_CALL_NO_SDP_OFFER
            Phone(account).makeCall(command["uri"], parameters)
        case "press":
            phones[command["call"]].dialDtmf(command["digits"])
        case "info":
            digits = pj.CallSendDtmfParam()
            digits.method, digits.digits = pj.PJSUA_DTMF_METHOD_SIP_INFO, command["digits"]
            phones[command["call"]].sendDtmf(digits)
        case "update":
            phones[command["call"]].update(settings())
        case "hold":
            phones[command["call"]].setHold(pj.CallOpParam())
        case "resume":
            parameters = settings()
            parameters.opt.flag = pj.PJSUA_CALL_UNHOLD
            phones[command["call"]].reinvite(parameters)
        case "refer":
            phones[command["call"]].xfer(command["target"], pj.CallOpParam(True))
        case "hang up":
            phones[command["call"]].hangup(pj.CallOpParam())


endpoint, account, port = start()
say("ready", port=port)
for line in sys.stdin:
    command = json.loads(line)
    if command["do"] == "quit":
        break
    try:
        obey(account, command)
    except pj.Error as error:
        say("error", text=error.info())
endpoint.libDestroy()
say("gone")
os._exit(0)
