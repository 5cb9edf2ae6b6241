"""What may be typed behind `python -m backups.engine`: its verbs, their options, and what those accept."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from backups.engine.disk import from_printable
from backups.engine.options import default_workers
from backups.engine.patterns import escape

MOST_WORKERS = 256

Verb = Callable[[argparse.Namespace], int]


def parser(description: str, deeds: Mapping[str, Verb]) -> argparse.ArgumentParser:
    """The parser; what it returns has the deed of the verb as `run`."""
    parser = argparse.ArgumentParser(prog="python -m backups.engine", description=description)
    verbs = _Verbs(parser.add_subparsers(required=True, metavar="VERB"), deeds)
    verbs.add("init", "make a repository").add_argument(
        "--recovery-code", action="store_true", help="print a recovery code and give it a key slot of its own"
    )
    _add_backup(verbs)
    listing = verbs.add("list", "list snapshots, or what one of them holds")
    listing.add_argument("--snapshot", help="id, beginning of an id, or 'latest'")
    listing.add_argument("path", nargs="?", default=b"", type=_path, help="list on and below this path only")
    _add_restore(verbs)
    _add_check(verbs)
    diff = verbs.add("diff", "compare two snapshots")
    diff.add_argument("before")
    diff.add_argument("after")
    keys = verbs.add("keys", "bring the keys of a lost console back, as files that only you can read")
    keys.add_argument("--to", required=True, metavar="DIR", help="directory for them, such as keys/ in a new home")
    return parser


class _Verbs:
    """Adds verbs with what all of them share."""

    def __init__(self, verbs: Any, deeds: Mapping[str, Verb]) -> None:
        self._verbs, self._deeds = verbs, deeds

    def add(self, name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self._verbs.add_parser(name, help=text, description=text)
        parser.set_defaults(run=self._deeds[name])
        parser.add_argument("--json", action="store_true", help="JSON on standard output, one document a line")
        parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
        parser.add_argument("repository", help="directory of the repository, or s3://BUCKET/PREFIX")
        return parser


def _add_backup(verbs: _Verbs) -> None:
    parser = verbs.add("backup", "make a snapshot of files and directories")
    parser.add_argument("source", nargs="+", help="files or directories")
    parser.add_argument("--exclude", action="append", default=[], help="pattern of what to leave out; repeatable")
    parser.add_argument("--one-file-system", action="store_true", help="do not go into mounts")
    parser.add_argument("--full", action="store_true", help="read everything again, assume nothing unchanged")
    parser.add_argument("--workers", type=_workers, default=default_workers(), help="worker processes; 0: none")
    parser.add_argument("--codec", choices=["zstd", "gzip", "none"], default="zstd")
    parser.add_argument("--level", type=int, default=1, choices=range(1, 20), metavar="1-19", help="of the codec")


def _add_restore(verbs: _Verbs) -> None:
    parser = verbs.add("restore", "bring a snapshot, or parts of it, back into an empty directory")
    parser.add_argument("--snapshot", default="latest", help="id, beginning of an id, or 'latest'")
    parser.add_argument("--target", required=True, help="directory that is empty or does not exist")
    parser.add_argument(
        "--include", action="append", default=[], type=_pattern, help="path as it is listed, or pattern; repeatable"
    )
    parser.add_argument("--exclude", action="append", default=[], help="pattern of what to leave out; repeatable")
    parser.add_argument(
        "--privileges", action="store_true", help="also setuid and setgid bits, capabilities and devices (as root)"
    )
    parser.add_argument(
        "--base", type=_path, help="directory of the snapshot that becomes the target itself; default: its source"
    )
    parser.add_argument("--workers", type=_workers, default=default_workers(), help="worker processes; 0: none")


def _add_check(verbs: _Verbs) -> None:
    parser = verbs.add("check", "find what is damaged or missing")
    level = parser.add_mutually_exclusive_group()
    level.add_argument("--level", type=int, default=1, choices=[1, 2, 3], help="1 listed, 2 SHA-256, 3 decrypted")
    level.add_argument("--read-data", dest="level", action="store_const", const=3, help="the same as --level 3")
    parser.add_argument(
        "--read-share", type=_share, default=1.0, metavar="0-1", help="part of the packs that levels 2 and 3 read"
    )
    parser.add_argument("--snapshot", action="append", help="check only what this snapshot needs; repeatable")


# what options accept


def _workers(text: str) -> int:
    if not text.isdecimal() or len(text) > 3 or int(text) > MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes; give 0 to {MOST_WORKERS}")
    return int(text)


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a part of the packs; give a number above 0, up to 1")


def _path(text: str) -> bytes:
    """A path as it is listed, with \\xNN for odd bytes."""
    try:
        return from_printable(text)
    except (ValueError, IndexError):
        raise argparse.ArgumentTypeError(f"{text!r} has a \\x that two hexadecimal digits do not follow") from None


def _pattern(text: str) -> str | bytes:
    """A listed path with \\xNN means that very path; anything else is a pattern."""
    return escape(_path(text)) if "\\x" in text else text
