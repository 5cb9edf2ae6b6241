"""Snapshots in a checkpoint: told by their ids, unpacked when they are asked for."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from backups.engine.snapshot import Live, Row, Snapshot, rows_told, unpack_record

IDS = ["0f8fad5b-d9cb-469f-a165-70867728950e", "short", "ü" * 40, "x" * 300, ""]


def snapshot(name: str, time: float = 0.0) -> Snapshot:
    digest = bytes(32)
    return Snapshot(name, time, digest, digest, digest, 1, 2, (digest,), ("index/x", "index/y"), {"a": 1}, record="r")


def checkpoint(*snapshots: Snapshot, **more: Any) -> bytes:
    live = [{**one.pack(), "record": one.record} for one in snapshots]
    packed: bytes = msgpack.packb({"kind": "checkpoint", "seq": 7, "body": {"live": live, "keys": ["k"]}, **more})
    return packed


def live_of(packed: bytes) -> Live:
    row = unpack_record(packed)
    return Live({one.id: one for one in rows_told(row["kind"], row["body"], "record")})


@pytest.mark.parametrize("name", IDS)
def test_it_comes_back_as_it_was(name: str) -> None:
    live = live_of(checkpoint(snapshot("first"), snapshot(name), snapshot("last")))

    assert list(live) == ["first", name, "last"]
    assert live[name] == snapshot(name)


def test_an_id_need_not_stand_first() -> None:
    body = {"time": 1.0, **snapshot(IDS[0]).pack(), "record": "r"}
    packed = msgpack.packb(dict(sorted(body.items(), reverse=True)))

    assert Row(packed).id == IDS[0]
    assert Row(packed).snapshot() == snapshot(IDS[0])


def test_what_stands_around_the_snapshots_is_read() -> None:
    row = unpack_record(checkpoint(snapshot("one"), time=3.5))

    assert (row["kind"], row["seq"], row["time"], row["body"]["keys"]) == ("checkpoint", 7, 3.5, ["k"])


def test_a_body_that_stands_before_its_kind_is_read_too() -> None:
    body = {"live": [{**snapshot("one").pack(), "record": "r"}]}

    assert live_of(msgpack.packb({"body": body, "kind": "checkpoint"}))["one"] == snapshot("one")


def test_the_last_one_committed_comes_first_whatever_its_clock_said() -> None:
    live = live_of(checkpoint(snapshot("early", 9.0), snapshot("late", 1.0)))

    assert [one.id for one in live.latest_first()] == ["late", "early"]


def test_index_objects_that_are_gone_are_named_no_more() -> None:
    row = Row({**snapshot("one").pack()}, "r")

    live = Live({"one": row}, frozenset({"index/x"}))

    assert live["one"].index == ("index/y",)
    assert row.snapshot().index == ("index/x", "index/y")


def test_what_is_forgotten_is_told_apart() -> None:
    live = live_of(checkpoint(snapshot("one"), snapshot("two")))

    assert (list(live.without({"one"})), list(live.only({"one"}))) == (["two"], ["one"])
