"""The control API apart, in a process of its own: what it asks of the one that carries calls, and how it is kept."""
