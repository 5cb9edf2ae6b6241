"""From words to a command. Each command is a function that takes the words after its name; imported when asked for."""

from __future__ import annotations

import argparse
import difflib
import importlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aihub_backup.cli import output
from aihub_backup.cli.exits import CommandFailed, Exit

# name → what it does, and which function of which module of this package does it
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("back real data up, verify and recover it through the whole product, and compare", "demo:main"),
    "up": ("run the console here: web, workers and scheduler", "up:main"),
    "storage": ("add and list places for backups", "protect:storage"),
    "repository": ("create, adopt, prove, repair, compact and list repositories, and their keys", "protect:repository"),
    "source": ("add, list, test, change, pause and resume what is protected", "protect:source"),
    "policy": ("add, list and change how long backups are kept and how old they may be", "policy:main"),
    "schedule": ("add, list, run, enable, disable and remove schedules", "schedule:main"),
    "backup": ("run, list, show, verify and cancel backups", "backup:main"),
    "restore": ("bring data back from a backup", "restore:main"),
    "recovery": ("list, show and cancel recoveries", "recovery:main"),
    "import-config": ("make storage, sources and objectives of a configuration file", "import_config:main"),
    "account": ("make accounts, give and take roles, unlock", "account:main"),
    "token": ("make a token for the REST API", "token:main"),
    "doctor": ("look at everything the console needs and say what to mend", "doctor:main"),
    "engine": ("use a repository directly, without the console", "programs:engine"),
    "rescue": ("bring data back with the one file that needs nothing of the console", "programs:rescue"),
    "manage": ("run a Django management command", "programs:manage"),
    "bench": ("measure against restic and Borg on this machine", "programs:bench"),
    "test": ("check and test the whole project", "testing:main"),
    "prove": ("run the full counts behind the claims and write the figures down", "prove:main"),
}


_PROGRAMS = ("programs", "testing", "prove")  # they know bytes, or give their words on as they are
_PATTERNS = ("--include", "--exclude")


def main(words: Sequence[str]) -> int:
    """Run the command that the words name. Returns the exit code; never raises."""
    if not words or words[0] in ("help", "-h", "--help"):
        output.result(overview())
        return Exit.OK if words else Exit.USAGE
    if words[0] == "--version":
        output.result(f"aihub {version()}")
        return Exit.OK
    return _run(words[0], list(words[1:]))


def overview() -> str:
    """The page of `aihub help`."""
    longest = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(longest)}  {summary}" for name, (summary, _) in COMMANDS.items()]
    return "\n".join(["usage: aihub COMMAND [--help] …", "", *lines])


def version() -> str:
    """The version of this checkout."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    return str(tomllib.loads(project.read_text())["project"]["version"])


def command(name: str, *, json: bool = True) -> argparse.ArgumentParser:
    """The parser of one command, with the options that all share."""
    words = COMMANDS[name][0]
    summary = f"{words[0].upper()}{words[1:]}."  # capitalize() would also write “rest api”
    parser = argparse.ArgumentParser(prog=f"aihub {name}", description=summary, parents=[_shared(json)])
    parser.set_defaults(home=None, json=False)
    return parser


def verb(verbs: Any, name: str, summary: str) -> argparse.ArgumentParser:
    """A verb of a command; it takes the shared options too, so that they may stand at the end."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=summary, parents=[_shared(True)])
    return parser


def pair(word: str) -> tuple[str, str]:
    """NAME and VALUE of a word NAME=VALUE."""
    name, equals, value = word.partition("=")
    if not equals:
        raise CommandFailed(f"{word!r} is not written as NAME=VALUE.", Exit.USAGE)
    return name, value


def _shared(json: bool) -> argparse.ArgumentParser:
    """Suppressed defaults: what was said before the verb is not unsaid by its silence after it."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--home", metavar="DIR", help="where the console keeps its data (default: AIHUB_HOME, or var/)")
    if json:
        shared.add_argument("--json", action="store_true", help="the result as one line of JSON on stdout")
    return shared


def _run(name: str, words: list[str]) -> int:
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean “{near[0]}”?" if near else ""
        output.complain(f"there is no command “{name}”.{hint} `aihub help` lists them.")
        return Exit.USAGE
    module, _, function = COMMANDS[name][1].partition(":")
    try:
        words = words if module in _PROGRAMS else texts(name, words)
        return int(getattr(importlib.import_module(f"aihub_backup.cli.{module}"), function)(words))
    except CommandFailed as failure:
        return _failed(failure, words)
    except KeyboardInterrupt:
        output.complain("interrupted.")
        return Exit.INTERRUPTED


def texts(name: str, words: list[str]) -> list[str]:
    """The words of a command as text, which is all that a database can keep. Bytes that are no UTF-8 (file names may
    hold them) are written \\xNN in patterns of paths; anywhere else CommandFailed names them."""
    found = []
    for at, word in enumerate(words):
        option = word.partition("=")[0] if word.startswith("--") else words[at - 1] if at else ""
        plain = "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in word)
        if plain != word and option not in _PATTERNS and (name, words[0]) != ("backup", "find"):
            raise CommandFailed(f"“{plain}” is no UTF-8: names, tags, options and targets have to be.", Exit.USAGE)
        found.append(plain)
    return found


def _failed(failure: CommandFailed, words: Sequence[str]) -> int:
    """A script that asked for JSON gets its one line of JSON in every case."""
    if "--json" in words or "--jsonl" in words:
        output.result_json({"type": "result", "ok": False, "exit": int(failure.exit_code), "error": str(failure)})
    output.complain(str(failure))
    return failure.exit_code
