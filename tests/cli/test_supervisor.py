"""The supervisor with real processes: restarts, drains, reaps, leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aihub_backup.cli import supervisor
from aihub_backup.core.processes import NOT_STARTED
from tests.cli.waiting import alive, eventually

STAGE = """
import json, os, signal, sys
from pathlib import Path
from aihub_backup.cli import supervisor

place = Path(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background inherit it ignored
supervisor.FIRST_DELAY = 0.1
supervisor.LOG_LIMIT = 1000
supervisor.HOUSEKEEPING = 0.1

def program(name, source, **more):
    python = (sys.executable, "-c", source.replace("PLACE", str(place)))
    command = (source,) if source.startswith("/") else python
    return supervisor.Program(name, command, os.environ, log=place / f"{name}.log", **more)

def report(text):
    with open(place / "said", "a") as file:
        file.write(text + "\\n")

pulse = supervisor.Pulse(place / "called", place / "heard", 0.6, 1.2)
watch = supervisor.Supervisor([
    program(name, source, grace=grace, pulse=pulse if name == "pool" else None)
    for name, source, grace in json.loads(sys.argv[2])
], report)
while watch.step(0.5):
    (place / "children").write_text(json.dumps([kept.process.pid if kept.process else None for kept in watch.kept]))
watch.stop()
(place / "stopped").touch()
"""

SLEEPER = "import time; open('PLACE/runs', 'a').write('x'); time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: open('PLACE/asked', 'w'))
open('PLACE/up', 'w')
time.sleep(600)
"""
POLITE = """
import signal, sys, time
def end(*_): open('PLACE/drained', 'w'); sys.exit(0)
signal.signal(signal.SIGTERM, end)
open('PLACE/up', 'w')
time.sleep(600)
"""
FAMILY = """
import os, subprocess, sys, time
own = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], process_group=0)
same = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
open('PLACE/family', 'w').write(f'{own.pid} {same.pid}')
time.sleep(600)
"""


LIVELY = """
import pathlib, time
open('PLACE/runs', 'a').write('x')
while True:
    pathlib.Path('PLACE/called').touch()
    pathlib.Path('PLACE/heard').touch()
    time.sleep(0.1)
"""
DEAF = """
import pathlib, time
open('PLACE/runs', 'a').write('x')
while True:
    pathlib.Path('PLACE/called').touch()
    time.sleep(0.1)
"""
BUSY = """
import pathlib, subprocess, sys, time
open('PLACE/runs', 'a').write('x')
child = 'import os, time\\nwhile True: os.system("sleep 0.8; true"); time.sleep(0.1)'
subprocess.Popen([sys.executable, '-c', child])  # one program after the other, with moments between them
while True:
    pathlib.Path('PLACE/called').touch()
    time.sleep(0.1)
"""


class Stage:
    """A supervisor process and the directory in which its programs leave their traces."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.process: subprocess.Popen[bytes] | None = None

    def open(self, **programs: tuple[str, float]) -> None:
        cast = [(name, textwrap.dedent(source), grace) for name, (source, grace) in programs.items()]
        self.process = subprocess.Popen([sys.executable, "-c", STAGE, str(self.place), json.dumps(cast)])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def text(self, name: str) -> str:
        path = self.place / name
        return path.read_text() if path.exists() else ""

    def children(self) -> list[int]:
        pids = json.loads(self.text("children") or "[]")
        return pids if pids and all(pids) else []

    def close(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    if stage.process is not None and stage.process.poll() is None:
        stage.close()


def test_it_starts_a_killed_program_again_and_says_so(stage: Stage) -> None:
    stage.open(web=(SLEEPER, 5))
    eventually(lambda: stage.text("runs") == "x")
    eventually(stage.children)
    (first,) = stage.children()

    os.kill(first, signal.SIGKILL)

    eventually(lambda: stage.text("runs") == "xx")
    assert "web was killed by SIGKILL; it is started again in" in stage.text("said")
    assert stage.close() == 0


def test_it_starts_a_program_again_that_gives_no_sign_of_life(stage: Stage) -> None:
    stage.open(pool=(DEAF, 5))

    eventually(lambda: stage.text("runs") == "xx")

    assert "pool gave no sign of life any more and is killed." in stage.text("said")


@pytest.mark.parametrize("program", [LIVELY, BUSY, SLEEPER], ids=["lively", "busy", "never called"])
def test_it_leaves_alone_who_lives_or_waits_for_its_own_work(stage: Stage, program: str) -> None:
    stage.open(pool=(program, 5))
    eventually(lambda: stage.text("runs") == "x")

    time.sleep(4)  # more than twice of what is allowed

    assert (stage.text("runs"), stage.text("said")) == ("x", "")


def test_it_waits_longer_after_each_early_death(stage: Stage) -> None:
    stage.open(web=("import time; open('PLACE/times', 'a').write(f'{time.monotonic()}\\n')", 5))

    eventually(lambda: len(stage.text("times").splitlines()) >= 5)

    times = [float(line) for line in stage.text("times").splitlines()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[3] > gaps[2] > gaps[1]
    assert gaps[3] >= 0.8


def test_it_drains_on_a_signal_and_kills_who_does_not_end_in_time(stage: Stage) -> None:
    stage.open(polite=(POLITE.replace("/up", "/up1"), 10), stubborn=(STUBBORN, 0.5))
    eventually(lambda: (stage.place / "up").exists() and (stage.place / "up1").exists() and stage.children())
    pids = stage.children()

    code = stage.close()

    assert code == 0
    assert (stage.place / "drained").exists()
    assert "stubborn did not end in time and was killed." in stage.text("said")
    assert not any(map(alive, pids))


def test_it_stops_at_once_on_a_second_signal(stage: Stage) -> None:
    stage.open(stubborn=(STUBBORN, 600))
    eventually(lambda: (stage.place / "up").exists())
    os.kill(stage.pid, signal.SIGINT)
    eventually(lambda: (stage.place / "asked").exists())

    code = stage.close(signal.SIGINT)

    assert code == 0
    assert (stage.place / "stopped").exists()


def test_it_goes_on_after_a_hang_up_that_nohup_ignores(stage: Stage) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited by the supervisor
    stage.open(web=(SLEEPER, 5))
    signal.signal(signal.SIGHUP, before)
    eventually(lambda: stage.text("runs") == "x" and stage.children())

    os.kill(stage.pid, signal.SIGHUP)
    time.sleep(1)

    assert not (stage.place / "stopped").exists()
    assert stage.close() == 0


def test_it_leaves_no_program_behind_when_it_is_killed_itself(stage: Stage) -> None:
    stage.open(one=(SLEEPER, 5), two=(STUBBORN, 5))
    eventually(lambda: (stage.place / "up").exists() and stage.children())
    pids = stage.children()

    stage.close(signal.SIGKILL)

    eventually(lambda: not any(map(alive, pids)))


def test_it_kills_the_group_of_a_dead_program_before_the_next_start(stage: Stage) -> None:
    stage.open(family=(FAMILY, 5))
    eventually(lambda: " " in stage.text("family") and stage.children())
    _, same_group = map(int, stage.text("family").split())

    os.kill(stage.children()[0], signal.SIGKILL)

    eventually(lambda: not alive(same_group))


def test_it_ends_descendants_that_moved_to_a_group_of_their_own(stage: Stage) -> None:
    stage.open(family=(FAMILY, 5))
    eventually(lambda: " " in stage.text("family"))
    family = list(map(int, stage.text("family").split()))

    stage.close()

    assert not any(map(alive, family))


def test_it_reaps_adopted_orphans(stage: Stage) -> None:
    orphan = "import os, time; open('PLACE/orphan', 'w').write(str(os.getpid())); time.sleep(0.3)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {orphan!r}]); time.sleep(0.2)"
    stage.open(
        parent=(
            f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {parent!r}], "
            "start_new_session=True); time.sleep(600)",
            5,
        )
    )

    eventually(lambda: stage.text("orphan"))

    eventually(lambda: not Path(f"/proc/{stage.text('orphan')}").exists())


def test_it_keeps_the_others_when_one_program_cannot_be_started(stage: Stage) -> None:
    stage.open(ghost=("/nowhere/program", 5), web=(SLEEPER, 5))

    eventually(lambda: stage.text("runs") == "x")

    eventually(lambda: f"ghost ended with exit code {NOT_STARTED}; it is" in stage.text("said"))
    assert "No such file or directory" in stage.text("ghost.log")
    assert stage.close() == 0


def test_it_moves_an_overlong_log_aside_while_the_program_goes_on_writing(stage: Stage) -> None:
    stage.open(talker=("import time\nwhile True: print('x' * 99, flush=True); time.sleep(0.01)", 5))

    eventually(lambda: (stage.place / "talker.log.1").exists())

    size = (stage.place / "talker.log").stat().st_size
    eventually(lambda: (stage.place / "talker.log").stat().st_size != size)
    assert set(stage.text("talker.log.1")) == {"x", "\n"}


@pytest.mark.parametrize(
    ("lived", "heard_ago", "silent"),
    [
        pytest.param(200.0, 260.0, False, id="it is still starting"),
        pytest.param(301.0, 360.0, True, id="it never came up"),
        pytest.param(200.0, 150.0, True, id="it answered and does no more"),
        pytest.param(200.0, 60.0, False, id="it answers"),
    ],
)
def test_a_process_that_has_not_answered_yet_gets_time_to_start(
    tmp_path: Path, lived: float, heard_ago: float, silent: bool
) -> None:
    pulse, now = supervisor.Pulse(tmp_path / "called", tmp_path / "heard", 110.0, 60.0, 300.0), time.time()
    for path, ago in ((pulse.called, 0.0), (pulse.heard, heard_ago)):
        path.touch()
        os.utime(path, (now - ago, now - ago))

    assert pulse.is_silent(lived) is silent
