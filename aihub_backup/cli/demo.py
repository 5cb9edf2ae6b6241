"""`aihub demo`: the whole product once, for real, on generated data; then everything is taken away again."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from aihub_backup.cli import demo_data, demo_story, orphans, output
from aihub_backup.cli.client import Client
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command
from aihub_backup.core import processes

START_PATIENCE = (
    150.0  # seconds for the console's first answer; a cold disk with a slow processor needs most of a minute
)
STOP_PATIENCE = 30.0
AWAY_PATIENCE = 10.0  # seconds for what is left to go


def main(words: Sequence[str]) -> int:
    """Exit code 0 only when everything that came back is identical to what was backed up."""
    options = _parser().parse_args(words)
    begin = time.monotonic()
    orphans.adopt()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with _workplace(options.home) as place, _console(place / "console") as console:
        story = demo_story.Story(place, demo_data.SCALES[options.size])
        story.make_data()  # while the console starts
        address = str(_first_line(console)["address"])
        output.say(f"the console runs at {address}")
        outcome = story.play(Client(address, _token(place / "console")))
    return _report(outcome, time.monotonic() - begin, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = command("demo")
    parser.add_argument(
        "--size", choices=list(demo_data.SCALES), default="normal", help="how much data (default: normal)"
    )
    return parser


def _report(outcome: demo_story.Outcome, seconds: float, as_json: bool) -> int:
    output.say(outcome.table())
    for difference in outcome.differences:
        output.complain(difference)
    left = orphans.children()
    if left:
        output.complain(f"processes were left behind: {left}")
    good = outcome.identical and not left
    if as_json:
        output.result_json({**outcome.figures(), "seconds": round(seconds, 1)})
    else:
        output.result(_verdict(outcome) + f" ({seconds:.0f} s)")
    return Exit.OK if good else Exit.DAMAGED


def _verdict(outcome: demo_story.Outcome) -> str:
    if not outcome.identical:
        return "NOT identical: see above."
    return (
        f"Identical: {outcome.files:,} files and {outcome.rows:,} rows came back as they were, twice: names, content, "
        "permissions, owners, times and links."
    )


@contextlib.contextmanager
def _workplace(home: str | None) -> Iterator[Path]:
    """The given directory, which stays, or a temporary one, which goes."""
    if home is not None:
        place = Path(home).absolute()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise CommandFailed(f"{place} is not empty; the demo needs a directory of its own.", Exit.USAGE)
        yield place
        output.say(f"everything was left in {place}; look at it with: aihub up --home {place / 'console'}")
        return
    place = Path(tempfile.mkdtemp(prefix="aihub-demo-"))
    try:
        yield place
    except BaseException:
        orphans.end()  # after a good end nobody may be left, which the report looks for
        raise
    finally:
        output.say("taking everything away again")
        _take_away(place)


def _take_away(place: Path) -> None:
    """Whoever still writes there is on its way out; what it adds while we look goes the next time."""
    end = time.monotonic() + AWAY_PATIENCE
    while place.exists() and time.monotonic() < end:
        shutil.rmtree(place, ignore_errors=True)
        if place.exists():
            time.sleep(0.1)
    if place.exists():
        output.complain(f"{place} could not be taken away; remove it by hand.")


@contextlib.contextmanager
def _console(home: Path) -> Iterator[processes.Child]:
    """The console as `aihub up` runs it, on a free port. It ends with the block."""
    output.say("starting the console: web, workers, scheduler")
    words = ["up", "--json", "--port", "0", "--drain", "20", "--home", str(home)]
    child = processes.spawn(
        [sys.executable, "-m", "aihub_backup.cli", *words],
        stdin=subprocess.DEVNULL,
        stderr=None,
        env={**os.environ, "AIHUB_PUBLIC_URL": "", "AIHUB_ENV_FILE": os.devnull},
    )
    try:
        yield child
    finally:
        child.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_PATIENCE)
        child.kill_group(0)


def _first_line(child: processes.Child) -> dict[str, Any]:
    """What `up --json` says when it is ready."""
    ready, _, _ = select.select([child.stdout], [], [], START_PATIENCE)
    line = child.stdout.readline() if ready else b""
    if not line:
        raise CommandFailed("the console did not start; the reason is above or in its logs.", Exit.DEPENDENCY)
    answer: dict[str, Any] = json.loads(line)
    if "address" not in answer:
        raise CommandFailed(f"the console did not start: {answer.get('error')}", Exit.DEPENDENCY)
    return answer


def _token(home: Path) -> str:
    """A token of the first account, made beside the running console as an operator would."""
    command = [
        sys.executable,
        "-m",
        "aihub_backup.cli",
        "token",
        "--json",
        "--days",
        "1",
    ]
    words = [*command, "--name", "demo", "--home", str(home)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=False, env={**os.environ, "AIHUB_ENV_FILE": os.devnull})
    if done.returncode != 0:
        raise CommandFailed("no token could be made; the reason is above.", Exit.DEPENDENCY)
    return str(json.loads(done.stdout)["token"])


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Asked to end: unwind, so that processes and directories go too."""
    raise SystemExit(128 + number)
