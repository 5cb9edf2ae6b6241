"""What `python -m backups.engine keys REPOSITORY …` does."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from backups.engine import console, errors, given, rekey
from backups.engine.disk import printable
from backups.engine.keys import Secret, new_keyfile, new_recovery_code
from backups.engine.reindex import outdated_index
from backups.engine.repository import Repository

Say = Callable[[Any, str], None]  # a value for programs, and the sentence for people


def run(repository: Repository, options: argparse.Namespace, say: Say) -> int:
    """The deed that was asked for."""
    if options.deed is None:
        _console(repository, options, say)
    else:
        DEEDS[options.deed](repository, options, say)
    return 0


def _console(repository: Repository, options: argparse.Namespace, say: Say) -> None:
    """The keys of the console that writes there, as files."""
    if not options.to:
        raise errors.InvalidOption("Say what to do: --to DIR, or one of list, add, change, remove, rotate.")
    found = console.read(repository)
    paths = [_shown(path) for path in console.write(found, os.path.abspath(options.to))]
    when = datetime.fromtimestamp(found.time, UTC).isoformat(timespec="seconds")
    result = {"console": found.console, "time": when, "files": paths}
    say(result, f"Keys of {found.console}, sealed {when}: {', '.join(paths)}.")


def _list(repository: Repository, _options: argparse.Namespace, say: Say) -> None:
    found = rekey.slots(repository)
    rows = [{name: value for name, value in asdict(slot).items() if name not in ("id", "name")} for slot in found]
    outdated, index = repository.outdated_packs(), outdated_index(repository)
    told = {"epoch": repository.ring.epoch, "packs_of_older_epochs": len(outdated),
            "bytes_of_older_epochs": sum(pack.size for pack in outdated), "index_objects_of_older_epochs": len(index),
            "slots": rows}  # fmt: skip
    lines = [_line(slot) for slot in found]
    older = (
        f"; {len(outdated)} packs ({told['bytes_of_older_epochs']} bytes), {len(index)} index objects are of older ones"
    )
    say(told, "\n".join([*lines, f"Key epoch {repository.ring.epoch}{older if outdated or index else ''}."]))


def _line(slot: rekey.Slot) -> str:
    notes = {"opened now": slot.opened, "writes here": slot.writer, "LEADS TO NO KEYS IN USE": not slot.works}
    told = ", ".join(note for note, true in notes.items() if true)
    return f"{slot.handle}  {slot.kind:<10}  {slot.created}  {slot.label}{f'  ({told})' if told else ''}"


def _add(repository: Repository, options: argparse.Namespace, say: Say) -> None:
    secret, result = _new(options)
    slot = rekey.add(repository, secret, options.label)
    _tell_new(slot, result, "opens the repository too", say)


def _change(repository: Repository, options: argparse.Namespace, say: Say) -> None:
    secret, result = _new(options)
    slot = rekey.change(repository, repository.secret, secret, options.label)
    _tell_new(slot, result, "opens the repository now, and the old secret no more", say)


def _tell_new(slot: rekey.Slot, result: Mapping[str, str], word: str, say: Say) -> None:
    code = result.get("recovery_code", "")
    paper = f"\nRecovery code, print it and keep it elsewhere:\n\n    {code}\n" if code else ""
    say({"slot": slot.handle, "kind": slot.kind, "label": slot.label, **result},
        f"“{slot.label}” ({slot.handle}) {word}.{paper}")  # fmt: skip


def _remove(repository: Repository, options: argparse.Namespace, say: Say) -> None:
    slot = rekey.remove(repository, options.slot, proven=given.optional(given.OTHER))
    say(
        {"removed": slot.handle, "kind": slot.kind, "label": slot.label},
        f"“{slot.label}” ({slot.handle}) opens the repository no more. Whoever has opened it before knows its keys of"
        " now: draw new ones with `keys rotate` if that matters.",
    )


def _rotate(repository: Repository, _options: argparse.Namespace, say: Say) -> None:
    epoch = rekey.rotate(repository, given.every(given.OTHER))
    left = len(repository.outdated_packs())
    say(
        {"epoch": epoch, "packs_of_older_epochs": left},
        f"What is written from now on is under the keys of epoch {epoch}. {left} packs are under older ones.",
    )


def _new(options: argparse.Namespace) -> tuple[Secret, dict[str, str]]:
    """The secret to be let in, and what must be told of it this once."""
    if options.recovery_code:
        code = new_recovery_code()
        return Secret.recovery_code(code), {"recovery_code": code}
    if options.keyfile:
        if not os.path.lexists(options.keyfile):
            given.made(options.keyfile, new_keyfile().value)
        return Secret.keyfile(given.read(options.keyfile)), {"keyfile": _shown(options.keyfile)}
    found = given.optional(given.NEW)
    if found is None or found.kind != "passphrase":
        raise errors.InvalidOption("Set AIHUB_NEW_PASSPHRASE, or ask for --recovery-code or --keyfile FILE.")
    return found, {}


def _shown(typed: str) -> str:
    return printable(os.fsencode(typed))


DEEDS: Mapping[str, Callable[[Repository, argparse.Namespace, Say], None]] = {
    "list": _list, "add": _add, "change": _change, "remove": _remove, "rotate": _rotate,
}  # fmt: skip
