"""`python -m tests.servers.production [words of pytest]`: tests of the database once more, on what production runs on.

PostgreSQL 18 keeps the rows and Valkey carries the messages. Chosen are the tests whose truth hangs on them: leases and
claims, slots that are unique, rows that are held, interrupted work, idempotent requests, what is counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from urllib.parse import quote

import pytest

from tests.servers import postgresql, program, valkey

CHOSEN = (
    "tests/core", "tests/provisioning", "tests/metrics", "tests/api/test_idempotency.py", "tests/api/test_schedules.py",
    "tests/backups/test_slots.py", "tests/backups/test_schedules.py", "tests/backups/test_retention.py",
    "tests/backups/test_deletion.py", "tests/backups/test_verifications.py", "tests/backups/test_states.py",
    "tests/backups/test_a_run_is_interrupted.py", "tests/backups/test_console.py",
    "tests/backups/test_console_guards.py", "tests/backups/test_protection.py",
    "tests/recovery/test_a_recovery_is_interrupted.py",
)  # fmt: skip

# Of these directories, what asks no database or is about SQLite's own surroundings.
LEFT_OUT = (
    "tests/core/test_checks.py", "tests/core/test_filebroker.py", "tests/core/test_options.py",
    "tests/core/test_plugins.py", "tests/core/test_processes.py", "tests/core/test_redaction.py",
    "tests/core/test_settings.py", "tests/provisioning/test_document.py",
)  # fmt: skip


def main(words: Sequence[str]) -> int:
    """The exit code of pytest; without the servers 0 with a sentence, or 1 in CI."""
    try:
        surroundings = _surroundings()
    except pytest.skip.Exception as absent:
        sys.stderr.write(f"SKIPPED on PostgreSQL and Valkey: {absent}\n")
        return 0
    except pytest.fail.Exception as absent:
        sys.stderr.write(f"{absent}\n")
        return 1
    try:
        chosen = () if _names_tests(words) else (*CHOSEN, *(f"--ignore={name}" for name in LEFT_OUT))
        command = [sys.executable, "-m", "pytest", *words, *chosen]
        return subprocess.run(command, env={**os.environ, **surroundings}, check=False).returncode
    finally:
        program.stop_all()


def _surroundings() -> dict[str, str]:
    """Settings of the tests' console; embedded in everything else, so that it makes its own keys."""
    database, broker = postgresql.started(18), valkey.start()
    return {
        "AIHUB_MODE": "embedded", "AIHUB_DATABASE_URL": address(database), "AIHUB_BROKER_URL": broker.url(),
        "PATH": f"{database.bin_dir}:{os.environ['PATH']}",  # the console's own database is dumped with its client
    }  # fmt: skip


def address(database: postgresql.PostgreSQLServer) -> str:
    """Of its owner's database, as a setting."""
    person = f"{quote(postgresql.OWNER)}:{quote(postgresql.PASSWORD, safe='')}"
    return f"postgres://{person}@127.0.0.1:{database.port}/postgres"


def _names_tests(words: Sequence[str]) -> bool:
    return any(word.startswith("tests/") for word in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
