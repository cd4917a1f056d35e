"""Media: SDP offer/answer, RTP/RTCP, the jitter buffer, the bridge and the agents' wire protocols.

Addressed only by the messages of :mod:`media.messages`, so that it runs in this process or in another.
May import :mod:`config` only.
"""
