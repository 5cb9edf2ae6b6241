"""What `python -m backups.engine copy REPOSITORY TO` does, and what this machine remembers between two runs of it.

The delay after which a copy lets go of what the repository no longer has is counted by whoever copies: the objects
themselves do not tell when they went. Where the memory is lost the delay begins anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from backups.engine.disk import printable
from backups.engine.errors import InvalidOption, StoreAbsent
from backups.engine.mirror import Mirrored, MirrorOptions, Progress, mirror
from backups.engine.store import Place
from backups.engine.stores.address import open_addresses
from backups.engine.stores.retrying import RetryingStore

Say = Callable[[Any, str], None]  # a value for programs, and the sentence for people


def run(options: argparse.Namespace, cache: Path, say: Say) -> Mirrored:
    """Make or continue the copy, and tell what was done; problems are told by the caller."""
    _refuse_nested(options.repository, options.to)
    source, copy = map(RetryingStore, open_addresses([options.repository, options.to], os.environ))
    if source.describe() == copy.describe():
        raise InvalidOption(f"The copy would be the repository itself: {copy.describe()}.")
    memory = Memory(cache / "copies", source, copy)
    new = options.new or not memory.known
    if not new:
        _must_be_mounted(copy)
    wished = MirrorOptions(options.parallel, options.verify, options.delete_after)
    done = mirror(source, copy, wished, create=new, gone=memory.gone, progress=_progress(options))
    memory.keep(done.gone)
    say(_told(done), _sentence(done))
    return done


def _must_be_mounted(copy: Place) -> None:
    """A mount point without its disk would be taken for a new place, and filled."""
    try:
        copy.capabilities()
    except StoreAbsent as error:
        raise StoreAbsent(f"{error} A copy was made there before; with --new it is made anew.") from None


class Memory:
    """Which objects only the copy has, and since when (Unix seconds): one file for each pair of places."""

    def __init__(self, folder: Path, source: Place, copy: Place) -> None:
        places = f"{source.describe()}\n{copy.describe()}".encode()
        self._file = folder / f"{hashlib.sha256(places).hexdigest()}.json"
        self.known = self._file.exists()

    @property
    def gone(self) -> Mapping[str, float]:
        """Empty where nobody can tell any more."""
        with suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
            facts = json.loads(self._file.read_bytes())
            return {str(name): float(since) for name, since in facts["gone"].items()}
        return {}

    def keep(self, gone: Mapping[str, float]) -> None:
        with suppress(OSError):  # a delay that begins anew, never a copy less
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self._file.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps({"gone": dict(gone)}))
            temporary.rename(self._file)


def _refuse_nested(repository: str, to: str) -> None:
    """InvalidOption when one of two directories lies in the other, or is the other."""
    if "://" in repository or "://" in to:
        return
    paths = [os.path.realpath(os.fsencode(place)).rstrip(b"/") + b"/" for place in (repository, to)]
    if paths[0].startswith(paths[1]) or paths[1].startswith(paths[0]):
        shown = [printable(os.fsencode(place)) for place in (to, repository)]
        raise InvalidOption(f"{shown[0]} and the repository {shown[1]} lie in one another; choose another directory.")


def _told(done: Mirrored) -> dict[str, Any]:
    facts = {name: getattr(done, name) for name in (
        "repository", "objects", "bytes", "copied", "bytes_copied", "replaced", "set_aside", "bytes_gone", "deleted",
        "bytes_deleted",
    )}  # fmt: skip
    problems = [{"object": problem.object, "message": problem.message} for problem in done.problems]
    return {**facts, "gone": len(done.gone), "problems": problems}


def _sentence(done: Mirrored) -> str:
    lines = [f"replaced {name}: {why}" for name, why in done.replaced.items()]
    lines.append(
        f"{done.copied} objects copied, {done.bytes_copied} bytes; the repository has {done.objects},"
        f" {done.bytes} bytes; {len(done.problems)} problems."
    )
    if done.gone:
        lines.append(f"The copy keeps {len(done.gone)} objects, {done.bytes_gone} bytes, that the repository let go.")
    if done.deleted:
        lines.append(f"Deleted in the copy: {done.deleted} objects, {done.bytes_deleted} bytes.")
    return "\n".join(lines)


def _progress(options: argparse.Namespace) -> Progress:
    begun = time.monotonic()

    def tell(done: Mirrored) -> None:
        if not options.quiet and sys.stderr.isatty():
            rate = done.bytes_done / max(time.monotonic() - begun, 0.001) / 1e6
            objects = f"{done.copied} of {done.objects} objects"
            sys.stderr.write(f"\r{objects}, {done.bytes_done} of {done.bytes_expected} bytes, {rate:.1f} MB/s\033[K")

    return tell
