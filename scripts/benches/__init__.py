"""The benches behind ``scripts/bench``: each measures one thing, and says when it could not.

The edge, all its processes, is pinned to core 0; what loads it is on core 1 and reports its own CPU, its own drift and
what its receive queues dropped. An idle 20 ms ticker on each core says how punctual the machine was meanwhile. Where
one of them, and not the edge, was the bottleneck, the row is *inconclusive*: its figure is not the edge's.
"""
