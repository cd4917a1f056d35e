"""Agents in processes of their own: the host that runs them, and the wire between it and a call's media."""
