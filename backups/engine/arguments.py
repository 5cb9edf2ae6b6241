"""What may be typed behind `python -m backups.engine`: its verbs, their options, and what those accept."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from backups.engine.choosing import BUDGET, UNUSED
from backups.engine.disk import from_printable
from backups.engine.mirror import PARALLEL
from backups.engine.options import default_workers
from backups.engine.patterns import escape

MOST_WORKERS = 256
MOST_TRANSFERS = 64
MOST_DAYS = 36500
UNITS = {"B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

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
    _add_repair(verbs)
    _add_copy(verbs)
    find = verbs.add("find", "find a path in all snapshots, with its versions")
    find.add_argument("wanted", help="a path that begins with /, a pattern such as '*.sql', or part of a name")
    find.add_argument("--snapshot", action="append", help="look only into this one; repeatable")
    forget = verbs.add("forget", "let go of snapshots for ever; compact gives back the space that only they needed")
    forget.add_argument("snapshot", nargs="+", help="id, or beginning of an id")
    _add_compact(verbs)
    diff = verbs.add("diff", "compare two snapshots")
    diff.add_argument("before")
    diff.add_argument("after")
    _add_keys(verbs)
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


def _add_repair(verbs: _Verbs) -> None:
    parser = verbs.add("repair", "heal what is damaged or missing, and tell what is lost")
    parser.add_argument(
        "--from", dest="copies", action="append", default=[], metavar="COPY",
        help="a copy of the repository, to take right objects from: directory, or s3://BUCKET/PREFIX; repeatable",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="write nothing, tell what would be done")
    parser.add_argument("--workers", type=_workers, default=default_workers(), help="worker processes; 0: none")


def _add_copy(verbs: _Verbs) -> None:
    parser = verbs.add("copy", "bring a copy in another place up to date, byte for byte; needs no secret")
    parser.add_argument("to", metavar="TO", help="place of the copy: directory, or s3://BUCKET/PREFIX")
    parser.add_argument(
        "--verify", action="store_true", help="read all of the copy as well, and replace what is damaged there"
    )
    parser.add_argument(
        "--delete-after", type=_days, metavar="DAYS",
        help="let the copy go of what the repository has not had for so long; default: it keeps everything",
    )  # fmt: skip
    parser.add_argument("--parallel", type=_transfers, default=PARALLEL, help="objects under way at once; default 4")
    parser.add_argument("--new", action="store_true", help="make TO anew, though a copy was made there before")


def _add_keys(verbs: _Verbs) -> None:
    text = "who has a way in, and the keys themselves; with --to: bring the keys of a lost console back"
    keys = verbs.add("keys", text)
    keys.add_argument("--to", metavar="DIR", help="directory for files that only you can read, such as keys/ of a home")
    deeds = keys.add_subparsers(dest="deed", metavar="DEED")
    deeds.add_parser("list", help="key slots (no secrets), the key epoch, and what is still under older keys")
    for name, what in (
        ("add", "let one more secret in"),
        ("change", "put a new secret in the place of the one that opens the repository now"),
    ):
        more = deeds.add_parser(name, help=what)
        kind = more.add_mutually_exclusive_group()
        kind.add_argument("--passphrase", action="store_true", help="AIHUB_NEW_PASSPHRASE holds it (the default)")
        kind.add_argument("--keyfile", metavar="FILE", help="at least 32 bytes; made when it is not there")
        kind.add_argument("--recovery-code", action="store_true", help="draw one and print it, this once")
        more.add_argument("--label", required=name == "add", default="", help="whose way in it is")
    remove = deeds.add_parser("remove", help="shut a secret out; two that work must be left")
    other = "AIHUB_OTHER_PASSPHRASE, _RECOVERY_CODE or _KEYFILE"
    slot = f"as list shows it, or its label; for the one that opens the repository now {other} proves another one"
    remove.add_argument("slot", help=slot)
    anew = f"draw a new master key for all that is written from now on; slots of older versions need {other}"
    deeds.add_parser("rotate", help=anew, description=anew)


def _add_compact(verbs: _Verbs) -> None:
    parser = verbs.add(
        "compact",
        "give back the space of what no snapshot needs any more: what is unused is marked, and goes with a run at least"
        " a day later, so that no backup of another host is disturbed",
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what would be done, and do nothing")
    parser.add_argument(
        "--budget",
        type=_bytes,
        default=BUDGET,
        metavar="BYTES",
        help="store at most so much anew: 500M, 16G; default 16G",
    )
    parser.add_argument(
        "--unused", type=_percent, default=UNUSED, metavar="PERCENT", help="leave so much unused; default 10"
    )
    parser.add_argument("--codec", choices=["zstd", "gzip", "none"], default="zstd")
    parser.add_argument("--level", type=int, default=1, choices=range(1, 20), metavar="1-19", help="of the codec")


# what options accept


def _workers(text: str) -> int:
    if not text.isdecimal() or len(text) > 3 or int(text) > MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes; give 0 to {MOST_WORKERS}")
    return int(text)


def _transfers(text: str) -> int:
    if not text.isdecimal() or len(text) > 2 or not 1 <= int(text) <= MOST_TRANSFERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of transfers; give 1 to {MOST_TRANSFERS}")
    return int(text)


def _days(text: str) -> float:
    """In seconds."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= MOST_DAYS:
            return float(text) * 24 * 3600
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of days; give 0 to {MOST_DAYS}")


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a part of the packs; give a number above 0, up to 1")


def _bytes(text: str) -> int:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "B")
    if not number.isdecimal() or unit not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give bytes, or a number with K, M, G or T")
    return int(number) * UNITS[unit]


def _percent(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 100:
            return float(text) / 100
    raise argparse.ArgumentTypeError(f"{text!r} is not a percentage; give a number from 0 to 100")


def _path(text: str) -> bytes:
    """A path as it is listed, with \\xNN for odd bytes."""
    try:
        return from_printable(text)
    except (ValueError, IndexError):
        raise argparse.ArgumentTypeError(f"{text!r} has a \\x that two hexadecimal digits do not follow") from None


def _pattern(text: str) -> str | bytes:
    """A listed path with \\xNN means that very path; anything else is a pattern."""
    return escape(_path(text)) if "\\x" in text else text
