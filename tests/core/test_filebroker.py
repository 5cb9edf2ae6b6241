"""The broker made of files: real processes send and take at once, and nothing is lost, doubled or left behind."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from aihub_backup.core import filebroker

BELL = Queue("bell", Exchange("bell"), "bell")
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    queue = str(tmp_path / "queue")
    return {"data_folder_in": queue, "data_folder_out": queue, "control_folder": str(tmp_path / "control")}


def connection(folders: dict[str, str]) -> Connection:
    return Connection("filesystem://localhost//", transport_options=folders)


def opened(link: Connection) -> filebroker.Channel:
    channel: Any = link.channel()
    assert isinstance(channel, filebroker.Channel)
    return channel


def send(folders: dict[str, str], first: int, count: int) -> None:
    with connection(folders) as link:
        producer = link.Producer()
        for number in range(first, first + count):
            producer.publish({"number": number}, exchange=BELL.exchange, routing_key="bell", declare=[BELL])


def take(folders: dict[str, str], stop: Any, taken: Any) -> None:
    with connection(folders) as link:
        channel = opened(link)
        BELL(channel).declare()
        numbers = []
        while True:
            try:
                numbers.append(channel._get("bell"))
            except Empty:
                if stop.is_set():
                    break
        taken.put(len(numbers))


def test_it_is_what_the_celery_app_uses() -> None:
    assert TRANSPORT_ALIASES["filesystem"] == "aihub_backup.core.filebroker:Transport"


def test_it_loses_and_doubles_nothing_between_processes(folders: dict[str, str]) -> None:
    stop, taken = FORK.Event(), FORK.Queue()
    takers = [FORK.Process(target=take, args=(folders, stop, taken)) for _ in range(2)]
    senders = [FORK.Process(target=send, args=(folders, 1000 * n, 300)) for n in range(3)]
    for process in (*takers, *senders):
        process.start()
    for process in senders:
        process.join()
    stop.set()

    counts = [taken.get(timeout=60) for _ in takers]

    for process in takers:
        process.join()
    assert sum(counts) == 900
    assert os.listdir(folders["data_folder_in"]) == []


def test_it_gives_messages_in_their_order_whatever_the_machine_was_doing(folders: dict[str, str]) -> None:
    send(folders, 0, 20)

    with connection(folders) as link:
        channel = opened(link)
        bodies = [channel._get("bell")["body"] for _ in range(20)]

    assert len(set(bodies)) == 20
    names = sorted(os.listdir(folders["data_folder_in"]))
    assert names == []


def test_it_keeps_the_bindings_of_all_who_bind_at_once(folders: dict[str, str]) -> None:
    def bind(number: int) -> None:
        with connection(folders) as link:
            Queue(f"q{number}", Exchange("many"), f"q{number}")(opened(link)).declare()

    binders = [FORK.Process(target=bind, args=(number,)) for number in range(8)]
    for process in binders:
        process.start()
    for process in binders:
        process.join()

    with connection(folders) as link:
        rows = opened(link).get_table("many")

    assert {row.queue for row in rows} == {f"q{number}" for number in range(8)}


def test_it_forgets_a_queue_that_is_deleted(folders: dict[str, str]) -> None:
    with connection(folders) as link:
        channel = opened(link)
        queue = Queue("gone", Exchange("many"), "gone")(channel)
        queue.declare()
        link.Producer().publish({}, exchange="many", routing_key="gone")

        queue.delete()

        assert channel.get_table("many") == []
        with pytest.raises(Empty):
            channel._get("gone")


def test_it_sweeps_what_killed_processes_left(folders: dict[str, str]) -> None:
    folder = Path(folders["data_folder_in"])
    old, fresh = folder / ".old.bell.msg.x", folder / ".fresh.bell.msg.x"
    for path in (old, fresh):
        path.write_text("{")
    os.utime(old, (time.time() - 2 * filebroker.ABANDONED,) * 2)

    with connection(folders) as link:
        Queue("swept", Exchange("swept"), "swept")(opened(link)).declare()

    assert not old.exists()
    assert fresh.exists()
