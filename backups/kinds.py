"""The two tables of this app: which kinds of places and which kinds of sources there are. One line is one kind."""

from __future__ import annotations

from typing import Any

from aihub_backup.core.plugins import PluginTable

# A place: a Django Storage with `Options` and `store_options()` (backups.storages.base).
STORAGES: PluginTable[Any] = PluginTable(
    "storage",
    {
        "local": (
            "Local directory",
            "backups.storages.local.LocalStorage",
            "A directory on a disk of one host, also one that is mounted there.",
        ),
        "s3": (
            "S3 and compatible",
            "backups.storages.s3.S3Storage",
            "A bucket at AWS or at a server that speaks the same language; every worker reaches it.",
        ),
    },
)

# A way to capture and restore one kind of source (backups.strategies.base).
STRATEGIES: PluginTable[Any] = PluginTable(
    "strategy",
    {
        "files": (
            "Files and directories",
            "backups.strategies.files.Files",
            "Paths of a host, with all attributes, as they are found.",
        ),
        "postgresql": (
            "PostgreSQL database",
            "backups.strategies.postgresql.PostgreSQL",
            "One database of a server, dumped in one moment while it is in use.",
        ),
        "sqlite": (
            "SQLite database",
            "backups.strategies.sqlite.SQLite",
            "One database file, copied in one moment while it is in use.",
        ),
    },
)

# What people ask for by one word are families of kinds, and backup types draw from them. Kinds that have no line above
# yet are named already: a request for them is answered with a sentence, not with a surprise.
FAMILIES: dict[str, tuple[str, ...]] = {
    "database": ("postgresql", "mysql", "sqlite"),
    "files": ("files",),
    "config": ("config",),
    "redis": ("redis",),
    "logs": ("logs",),
}
