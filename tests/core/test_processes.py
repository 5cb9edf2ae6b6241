from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from aihub_backup.core import processes
from aihub_backup.core.processes import NOT_STARTED, Identity, Presence, presence, spawn
from tests.core.conftest import eventually


def gone(pid: int) -> bool:
    return processes.start_time(pid) is None


def test_it_knows_itself_and_its_written_form() -> None:
    me = processes.me()

    assert Identity.parse(str(me)) == me
    assert presence(me, one_host=False) is Presence.ALIVE


@pytest.mark.parametrize("text", ["", "somebody", "a/b/c/d/e", "a/b/c/1/x"])
def test_other_texts_are_no_identity(text: str) -> None:
    assert Identity.parse(text) is None


def test_a_later_process_of_the_same_number_is_another_one() -> None:
    me = processes.me()

    assert presence(me._replace(started=me.started - 1), one_host=False) is Presence.DEAD


def test_a_process_of_an_earlier_boot_is_dead_where_there_is_one_host() -> None:
    before = processes.me()._replace(boot="another")

    assert presence(before, one_host=True) is Presence.DEAD
    assert presence(before, one_host=False) is Presence.UNKNOWN


def test_nothing_is_known_about_another_container() -> None:
    assert presence(processes.me()._replace(namespace="pid:[1]"), one_host=True) is Presence.UNKNOWN


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen(["true"])
    identity = processes.me()._replace(pid=child.pid, started=processes.start_time(child.pid) or 0)
    eventually(lambda: gone(child.pid))

    assert presence(identity, one_host=False) is Presence.DEAD
    child.wait()


def test_a_child_speaks_through_its_pipes() -> None:
    child = spawn(["cat"])
    child.stdin.write(b"hello")
    child.stdin.close()

    assert child.stdout.read() == b"hello"
    assert child.wait(5) == 0
    assert os.getpgid(0) != child.pid


def test_a_pipe_that_was_not_asked_for_is_not_there() -> None:
    child = spawn(["true"], stdin=None)
    child.wait(5)

    with pytest.raises(ValueError, match="without this pipe"):
        _ = child.stdin


def test_a_program_that_is_not_there_is_told_apart() -> None:
    child = spawn(["no-such-program"])

    assert child.stderr.read() == b"no-such-program: No such file or directory\n"
    assert child.wait(5) == NOT_STARTED


def test_killing_reaches_the_whole_group() -> None:
    child = spawn(["sh", "-c", "trap '' TERM; sleep 600 & echo $!; sleep 600"])
    grandchild = int(child.stdout.readline())

    assert child.kill_group(grace=0.2)

    eventually(lambda: gone(grandchild))
    assert child.poll() == -signal.SIGKILL


def test_a_polite_child_ends_by_itself() -> None:
    child = spawn(["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"])
    child.stdout.readline()

    child.kill_group(grace=5)

    assert child.poll() == 7


def test_a_child_dies_with_a_killed_parent() -> None:
    code = "from aihub_backup.core.processes import spawn; print(spawn(['sleep', '600']).pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())

    parent.kill()
    parent.wait()

    eventually(lambda: gone(child), within=5)


def test_a_child_dies_with_the_thread_that_made_it() -> None:
    made: list[processes.Child] = []

    def make() -> None:
        made.append(spawn(["sh", "-c", "echo ready; sleep 600"]))
        made[0].stdout.readline()

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()

    assert made[0].wait(5) == -signal.SIGKILL


def test_a_forked_worker_follows_its_main_process() -> None:
    code = (
        "import os, time; from aihub_backup.core.processes import die_with_parent\n"
        "if pid := os.fork():\n    print(pid, flush=True)\nelse:\n    die_with_parent()\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)

    parent.kill()
    parent.wait()

    eventually(lambda: gone(child), within=5)
