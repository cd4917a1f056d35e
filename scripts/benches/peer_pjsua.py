"""PJSIP (pjsua2) as an echo, in a process of its own: it is a peer to measure, and no part of the edge.

usage: python peer_pjsua.py     prints one line of JSON when it is up; ends with its standard input
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pjsua2 as pj

kept: list[Any] = []  # the wrapper's callbacks into a collected object crash


class Echo(pj.Call):  # type: ignore[misc]
    """Answers, and sends what it hears."""

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:  # noqa: N802
        info = self.getInfo()
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                audio = self.getAudioMedia(index)
                audio.startTransmit(audio)


class Answerer(pj.Account):  # type: ignore[misc]
    """Takes every call."""

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:  # noqa: N802
        call = Echo(self, prm.callId)
        kept.append(call)
        parameters = pj.CallOpParam(True)
        parameters.statusCode = 200
        parameters.opt.audioCount, parameters.opt.videoCount = 1, 0
        call.answer(parameters)


def main() -> None:
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 1
    config.logConfig.level = config.logConfig.consoleLevel = 0
    config.medConfig.clockRate = config.medConfig.sndClockRate = 8000
    config.medConfig.noVad = True
    config.medConfig.ecTailLen = 0
    endpoint.libInit(config)
    endpoint.audDevManager().setNullDev()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMU") else 0)
    options = pj.TransportConfig()
    options.boundAddress = options.publicAddress = "127.0.0.1"
    number = endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, options)
    endpoint.libStart()
    account_config = pj.AccountConfig()
    account_config.idUri = "sip:+15551230001@127.0.0.1"
    account_config.sipConfig.transportId = number
    account_config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    account_config.mediaConfig.transportConfig.publicAddress = "127.0.0.1"
    account_config.mediaConfig.transportConfig.port = 34000
    account = Answerer()
    account.create(account_config)
    port = int(endpoint.transportGetInfo(number).localName.rpartition(":")[2])
    os.write(1, json.dumps({"port": port, "version": endpoint.libVersion().full}).encode() + b"\n")
    sys.stdin.read()
    os._exit(0)  # its destructors crash


main()
