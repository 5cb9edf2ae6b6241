"""All orders of one writer and one compactor: every acknowledged snapshot restores."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from backups.engine import format as fmt
from backups.engine import pack
from tests.engine import test_interleavings as stories
from tests.engine.interleaving import Order, Play, killed, orders, stops
from tests.proofs.registry import Case, Figures, Missed, proof

SLICES = 100  # of all orders; each case plays one
RENEWED_SLICES = 20


@proof(
    "compaction",
    "interleavings",
    "every order of a writer and a compactor with up to three changes, lease lost or not, and with up to two changes"
    " each of them killed before every step: what was acknowledged restores, who is healthy ends well",
    count=SLICES,
)
def interleavings(case: Case) -> Figures:
    return _played(case, SLICES, rotated=False, changes=3)


@proof(
    "compaction",
    "interleavings-renewed",
    "the same after new keys were drawn, when the compactor writes everything anew: orders with up to two changes, and"
    " with one change each of the two killed before every step",
    count=RENEWED_SLICES,
)
def interleavings_renewed(case: Case) -> Figures:
    return _played(case, RENEWED_SLICES, rotated=True, changes=2)


def _played(case: Case, slices: int, *, rotated: bool, changes: int) -> Figures:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "threading", SimpleNamespace(Thread=stories._AtOnce))
        patch.setattr(fmt, "FRAME_SIZE", 3000)
        patch.setattr(fmt, "PACK_SIZE", 9000)
        world, began = stories.made_world(case.place, rotated=rotated), time.monotonic()
        every = _every(stops(world), changes)
        outcomes = [Play(world, order).outcome() for order in itertools.islice(every, case.number, None, slices)]
    figures = {"orders": len(outcomes), "acknowledged": sum(outcome.acknowledged for outcome in outcomes),
               "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    for outcome in outcomes:
        if outcome.broken:
            raise Missed(f"{outcome.order}: {outcome.broken}", figures)
    return figures


def _every(many: dict[str, int], most: int) -> Iterator[Order]:
    for changes in range(most + 1):
        yield from orders(many, changes)
    for changes in range(most):
        for order in orders(many, changes):
            yield from killed(order, many)
