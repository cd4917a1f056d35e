"""The I/O shell of the SIP engine: what moves its octets (RFC 3261 §18)."""
