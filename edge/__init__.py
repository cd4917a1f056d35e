"""The SIP edge: a sans-I/O user agent core (RFC 3261) and one I/O shell, :mod:`edge.transport`.

May import :mod:`config` only. SDP crosses this package as opaque bytes.
"""
