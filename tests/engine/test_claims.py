"""The claim table: of many processes exactly one stores a blob, and in doubt one more."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from backups.engine.claims import SHARDS, Claims
from backups.engine.format import sha256

IDS = [sha256(n.to_bytes(4, "big")) for n in range(5000)]
NUMBERS = {one: n.to_bytes(2, "big") for n, one in enumerate(IDS)}


def claimed(claims: Claims, ids: list[bytes]) -> list[bytes]:
    return [one for one in ids if claims.claim(one)]


@pytest.mark.parametrize("shared", [True, False])
def test_the_first_caller_gets_a_blob_and_nobody_after_it(shared: bool) -> None:
    claims = Claims(1 << 14, shared=shared)

    assert claimed(claims, IDS) == IDS
    assert claimed(claims, IDS) == []


def test_many_processes_claim_each_blob_exactly_once() -> None:
    claims, pipes = Claims(1 << 14), []
    for number in range(4):
        mine, theirs = os.pipe()
        if (child := os.fork()) == 0:
            _claim_and_leave(claims, IDS[number * 1000 :] + IDS[: number * 1000], theirs)
        os.close(theirs)
        pipes.append((child, mine))

    found = Counter[int]()
    for child, mine in pipes:
        with os.fdopen(mine, "rb") as pipe:
            data = pipe.read()
        found.update(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
        assert os.waitpid(child, 0)[1] == 0

    assert found == Counter(range(len(IDS)))


def _claim_and_leave(claims: Claims, order: list[bytes], pipe: int) -> None:
    """What a child does: tell what it got; it never returns into its copy of the tests."""
    status = 1
    try:
        os.write(pipe, b"".join(NUMBERS[one] for one in claimed(claims, order)))
        status = 0
    finally:
        os._exit(status)


def test_a_full_table_grants_rather_than_loses() -> None:
    claims = Claims(SHARDS * 8, shared=False)

    first = claimed(claims, IDS[:1000])
    second = claimed(claims, IDS[:1000])

    assert first == IDS[:1000]
    assert len(second) == 1000 - SHARDS * 6  # three quarters of each shard are remembered


def test_it_tells_when_it_is_half_full() -> None:
    claims = Claims(SHARDS * 64, shared=False)
    told = []
    for one in IDS[: SHARDS * 40]:
        claims.claim(one)
        told.append(claims.half_full)

    assert told.index(True) == SHARDS * 32 - 1
    assert all(told[SHARDS * 32 :])


def test_clearing_forgets_all_claims() -> None:
    claims = Claims(1 << 17, shared=False)  # 2 MiB: more than is cleared in one step
    claimed(claims, IDS)

    claims.clear()

    assert not claims.half_full
    assert claimed(claims, IDS) == IDS


def test_ids_of_zeros_and_ids_that_meet_in_one_place_are_told_apart() -> None:
    claims = Claims(SHARDS * 16, shared=False)
    alike = [bytes(9) + bytes([n]) + bytes(22) for n in range(1, 10)]

    assert claimed(claims, alike) == alike
    assert claimed(claims, alike) == []
    assert claims.claim(bytes(32))  # the mark of an empty place: granted too often, never too seldom
