"""What lies in a recovery point of a PostgreSQL database, and whether it can be read as a restore would read it."""

from __future__ import annotations

import bisect
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backups.engine.errors import TargetError
from backups.strategies.base import Finding
from backups.strategies.postgresql import client
from backups.strategies.postgresql.client import Client

GLOBALS = b"globals.sql"
COUNTS = b"~counts.json"  # behind every other name: it is known only when the dump has been read
_ENTRY = re.compile(r"^\d+; \d+ \d+ ")
_DATA = re.compile(r"^\d+; \d+ \d+ TABLE DATA (.+)$", re.MULTILINE)


def file_name(database: str) -> str:
    """What its dump is called: no slash, no sign that sorts behind the counts."""
    return quote(database, safe=" ").replace("~", "%7E") + ".dump"


def dump_in(directory: str, facts: Mapping[str, Any]) -> str:
    """The dump's path, also for the programs we start: a directory known by a handle is ours, not theirs."""
    ours = directory.replace("/proc/self/", f"/proc/{os.getpid()}/", 1)
    return os.path.join(ours, str(facts["dump"]))


def counts_in(directory: str) -> dict[str, Any]:
    """What was counted at the capture. TargetError when that is not there."""
    path = os.path.join(directory, COUNTS.decode())
    try:
        counts: dict[str, Any] = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise TargetError(f"{path} cannot be read ({error}); restore it together with the dump.") from None
    return counts


def reader(facts: Mapping[str, Any], bin_dir: str = "") -> Client:
    """The pg_restore that understands the dump. TargetError."""
    return client.for_archive(bin_dir, major(facts))


def major(facts: Mapping[str, Any]) -> int:
    """The major version of the pg_dump that wrote it; betas and builds of one's own have letters behind it."""
    found = re.match(r"\d+", str(facts["tools"]["pg_dump"]))
    return int(found[0]) if found else 0


def list_without(listing: str, keys: Sequence[Sequence[str]]) -> str:
    """pg_restore's list of contents, with these foreign keys ([schema, table, name]) left out."""
    starts = tuple(f"FK CONSTRAINT {' '.join(key)} " for key in keys)
    lines = listing.splitlines(keepends=True)
    return "".join(f";{line}" if _ENTRY.sub("", line).startswith(starts) else line for line in lines)


def examined(directory: str, facts: Mapping[str, Any]) -> Sequence[Finding]:
    """Read all of it: a list of contents alone is also given of a dump that was cut off."""
    try:
        told, tool = counts_in(directory)["tables"], reader(facts, _still_there(str(facts.get("bin_dir", ""))))
    except TargetError as error:
        missing = "pg_restore" in str(error)
        words = (
            f"The bytes are the ones that were stored; nothing looked into the dump. {error}" if missing else str(error)
        )
        return [Finding(check="dump", passed=missing, detail=words)]
    path = dump_in(directory, facts)
    whole = client.read([tool.program("pg_restore"), "--file=/dev/null", "--", path])
    if whole.code:
        return [Finding(check="dump", passed=False, detail=f"pg_restore cannot read the dump: {whole.why}.")]
    listing = client.read([tool.program("pg_restore"), "--list", "--", path])
    detail = f"pg_restore {tool.version} reads the dump from its beginning to its end."
    return [
        Finding(check="dump", passed=True, detail=detail),
        _compared(told, listing.output.decode("utf-8", "replace")),
    ]


def _compared(told: Sequence[Mapping[str, Any]], listing: str) -> Finding:
    """Is every table that was counted in the dump? Extensions may have added some of their own. The list keeps names
    without quotes, and the owner behind them."""
    there = sorted(_DATA.findall(listing))
    names = [re.sub(r"[\r\n]", " ", f"{table['schema']} {table['name']} ") for table in told]
    absent = [name for name in names if not _begins_one(name, there)]
    if absent:
        words = f"{len(absent)} of the {len(names)} tables that were counted are not in the dump: {absent[0]}…"
        return Finding(check="contents", passed=False, detail=words)
    rows = sum(table["rows"] for table in told)
    return Finding(
        check="contents", passed=True, detail=f"The dump holds the {len(names)} tables ({rows} rows) counted."
    )


def _begins_one(name: str, there: Sequence[str]) -> bool:
    at = bisect.bisect_left(there, name)
    return at < len(there) and there[at].startswith(name)


def _still_there(bin_dir: str) -> str:
    """Another host may keep its programs elsewhere."""
    return bin_dir if os.path.isdir(bin_dir) else ""
