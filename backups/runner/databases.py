"""A recovery point into a new database of the source's own server. The strategy does it; nothing here knows which."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from aihub_backup.core.failures import Refused
from backups.runner.backup import strategy
from backups.runner.caller import Caller
from backups.strategies.base import DatabaseStrategy


def judge(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"source", "workdir", "name", "facts": told at the capture, "make_roles"} → {}. Raises what stands in the way."""
    _of(job).judge(job["name"], job["facts"], make_roles=job["make_roles"])
    return {}


def build(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"source", "workdir", "build_as", "directory": absolute bytes with the recovery point's files, "facts",
    "make_roles"} → {"known_as", "findings"}. When it fails or is cancelled, nothing stays on the server."""
    known_as, findings = _of(job).build(
        job["build_as"], os.fsdecode(job["directory"]), job["facts"], make_roles=job["make_roles"],
        tick=lambda: caller.progress({"phase": "restoring"}),
    )  # fmt: skip
    return {"known_as": known_as, "findings": [dict(finding) for finding in findings]}


def rename(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"source", "workdir", "build_as", "name"} → {}."""
    _of(job).rename(job["build_as"], job["name"])
    return {}


def discard(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"source", "workdir", "build_as"} → {}."""
    _of(job).discard(job["build_as"])
    return {}


def called(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"source", "workdir", "known_as"} → {"name"}; "" when it is gone."""
    return {"name": _of(job).name_of(job["known_as"])}


def _of(job: Mapping[str, Any]) -> DatabaseStrategy[Any]:
    found = strategy(job["source"], job["workdir"])
    if not isinstance(found, DatabaseStrategy):
        raise Refused(f"A source of kind “{job['source']['kind']}” has no server to make databases on.")
    return found
