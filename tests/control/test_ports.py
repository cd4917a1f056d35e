"""The pool of RTP port pairs."""

from __future__ import annotations

import os

import pytest

from control.ports import PortPool, PortPoolError


def pool(port_min: int = 20000, port_max: int = 20005, rest_s: float = 5.0) -> PortPool:
    return PortPool(port_min, port_max, rest_s=rest_s, entropy=os.urandom)


def test_leased_ports_are_even_and_within_the_range() -> None:
    """RFC 3550 §11: RTP on the even port, RTCP on the next, both inside the range."""
    ports = pool(20001, 20008)
    leased = {ports.lease(0.0) for _ in range(3)}
    assert leased == {20002, 20004, 20006}
    assert ports.lease(0.0) is None


def test_a_released_pair_rests_before_it_is_leased_again() -> None:
    ports = pool(20000, 20001)
    port = ports.lease(0.0)
    assert port == 20000
    ports.release(port, 10.0)
    assert ports.lease(14.9) is None
    assert ports.resting(14.9) == 1
    assert ports.resting(15.0) == 0
    assert ports.lease(15.0) == 20000


def test_a_pair_released_twice_is_leased_once() -> None:
    ports = pool(20000, 20003, rest_s=0.0)
    first = ports.lease(0.0)
    assert first is not None
    ports.release(first, 0.0)
    ports.release(first, 0.0)
    assert len({ports.lease(1.0), ports.lease(1.0)}) == 2
    assert ports.lease(1.0) is None


def test_an_unleased_port_cannot_be_released_into_the_pool() -> None:
    ports = pool(20000, 20001, rest_s=0.0)
    ports.release(30000, 0.0)
    assert ports.lease(1.0) == 20000
    assert ports.lease(1.0) is None
    assert ports.leased == 1


def test_a_range_without_a_whole_pair_is_refused() -> None:
    with pytest.raises(PortPoolError, match="20001 and 20002"):
        pool(20001, 20002)


def test_the_order_of_ports_is_drawn_and_not_ascending() -> None:
    ports = pool(20000, 20199)
    order = [ports.lease(0.0) for _ in range(100)]
    assert sorted(p for p in order if p is not None) == list(range(20000, 20200, 2))
    assert order != sorted(p for p in order if p is not None)
