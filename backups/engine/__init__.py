"""The engine: a content-addressed, deduplicating, compressed, encrypted repository of write-once objects.

Pure: it imports no Django and nothing else of this project. docs/format.md describes what it writes.
"""

from __future__ import annotations

from backups.engine.archiver import Archived, archive
from backups.engine.checker import Checked, Problem, check
from backups.engine.choosing import CompactOptions, Plan
from backups.engine.compaction import Compacted, compact, preview
from backups.engine.differ import Change, Difference, diff, diff_with_moves
from backups.engine.entry import Entry, ItemError, Kind, Notes
from backups.engine.errors import EngineError
from backups.engine.finder import Found, Version, find
from backups.engine.keys import Secret, new_keyfile, new_recovery_code
from backups.engine.listing import entries
from backups.engine.log import Snapshot
from backups.engine.mirror import Mirrored, MirrorOptions, mirror
from backups.engine.options import Options, Restored, RestoreOptions, Stats
from backups.engine.repair import Repaired, repair
from backups.engine.repository import Repository
from backups.engine.restorer import restore
from backups.engine.stores import open_store

__all__ = [
    "Archived",
    "Change",
    "Checked",
    "CompactOptions",
    "Compacted",
    "Difference",
    "EngineError",
    "Entry",
    "Found",
    "ItemError",
    "Kind",
    "MirrorOptions",
    "Mirrored",
    "Notes",
    "Options",
    "Plan",
    "Problem",
    "Repaired",
    "Repository",
    "RestoreOptions",
    "Restored",
    "Secret",
    "Snapshot",
    "Stats",
    "Version",
    "archive",
    "check",
    "compact",
    "diff",
    "diff_with_moves",
    "entries",
    "find",
    "mirror",
    "new_keyfile",
    "new_recovery_code",
    "open_store",
    "preview",
    "repair",
    "restore",
]
