"""`aihub repository keys NAME …`: who holds a way into a repository, and the keys themselves."""

from __future__ import annotations

import argparse
import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from aihub_backup.cli import console, output
from aihub_backup.cli.asking import QUESTIONS, asked, content
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import verb
from aihub_backup.core.commands import typed
from aihub_backup.provisioning import kits

KINDS = (*QUESTIONS, "keyfile")


def add_verb(verbs: Any) -> None:
    """Of the parser of `aihub repository`."""
    keys = verb(verbs, "keys", "who holds a way into it: list, new-code, add, change, remove, rotate, renew")
    keys.add_argument("name")
    deeds = keys.add_subparsers(dest="deed", required=True, metavar="DEED")
    verb(deeds, "list", "its key slots, and what is still under older keys")
    code = verb(deeds, "new-code", "draw a new recovery code and show its kit once; “add” makes it count")
    code.add_argument("--kit", metavar="FILE", help="write the recovery kit there instead of showing it")
    add = verb(deeds, "add", "let one more secret in (asks for it, or reads stdin)")
    add.add_argument("--label", required=True, help="whose way in it is")
    _add_kind(add, "which one is asked for")
    _add_kind(verb(deeds, "change", "a new secret in the place of an old one of the same kind (asks for both)"), "kind")
    remove = verb(deeds, "remove", "shut a secret out")
    remove.add_argument("slot", help="as “list” shows it")
    remove.add_argument("--reason", required=True, help="for the audit")
    rotate = verb(deeds, "rotate", "draw a new master key for all that is written from now on")
    rotate.add_argument("--reason", required=True, help="for the audit")
    rotate.add_argument("--ask", choices=tuple(QUESTIONS), action="append", default=[],
                        help="the secret of a slot that an older version made; repeatable")  # fmt: skip
    renew = verb(deeds, "renew", "give the console a new keyfile, also where its own cannot be read any more")
    renew.add_argument("--ask", choices=tuple(QUESTIONS), help="open it with this secret instead of the old keyfile")


def _add_kind(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--kind", choices=KINDS, default="passphrase", help=text)
    parser.add_argument("--keyfile", metavar="FILE", help="of the kind keyfile: the (new) file, at least 32 bytes")
    parser.add_argument("--old-keyfile", metavar="FILE", help="of the kind keyfile, to change: the old file")


def run(options: argparse.Namespace) -> int:
    """The deed."""
    from backups.models import Repository
    from backups.services import lookup

    rows = Repository.objects.select_related("storage__node", "storage__environment")
    return DEEDS[options.deed](options, lookup.find(rows, options.name))


def _list(options: argparse.Namespace, row: Any) -> int:
    from backups.services import keyring

    return _tell(options, keyring.look(row), "")


def _new_code(options: argparse.Namespace, row: Any) -> int:
    from backups.services import keyring

    with kits.new_file(options.kit) as file:
        kit = keyring.draw(row, by=console.actor())
        why = kits.written(file, kit.text)
    if options.json:
        output.result_json({"repository": row.name, "recovery_code": kit.code} if why else {
            "repository": row.name, "kit_file": os.path.abspath(options.kit)})  # fmt: skip
    else:
        output.result(kit.text if why else f"the kit is in {options.kit}")
    add = typed("repository", "keys", row.name, "add", "--kind", "recovery-code", "--label", "…")
    output.say(f"It opens nothing yet. Print it, then type the printed code: {add}")
    return Exit.FAILED if why and options.kit else Exit.OK


def _add(options: argparse.Namespace, row: Any) -> int:
    from backups.services import keyring

    ways = keyring.add(row, _secret(options.kind, options.keyfile), options.label, by=console.actor())
    return _tell(options, ways, f"“{options.label}” opens “{row}” too")


def _change(options: argparse.Namespace, row: Any) -> int:
    from backups.services import keyring

    old, new = _secret(options.kind, options.old_keyfile, "Old "), _secret(options.kind, options.keyfile, "New ")
    ways = keyring.change(row, old, new, by=console.actor())
    return _tell(options, ways, f"the new secret opens “{row}”, the old one no more")


def _remove(options: argparse.Namespace, row: Any) -> int:
    from backups.services import keyring

    ways = keyring.remove(row, options.slot, reason=options.reason, by=console.actor())
    return _tell(options, ways, f"it opens “{row}” no more")


def _rotate(options: argparse.Namespace, row: Any) -> int:
    from backups.services import keyring

    others = [_secret(kind, None) for kind in options.ask]
    ways = keyring.rotate(row, others, reason=options.reason, by=console.actor())
    return _tell(options, ways, f"what is written to “{row}” from now on is under new keys")


def _renew(options: argparse.Namespace, row: Any) -> int:
    from backups.services import keyring

    ways = keyring.renew_own(row, _secret(options.ask, None) if options.ask else None, by=console.actor())
    return _tell(options, ways, f"this console opens “{row}” with a new keyfile")


def _secret(kind: str, keyfile: str | None, which: str = "") -> Any:
    from backups.services import adopting

    if kind == "keyfile":
        if not keyfile:
            raise CommandFailed("name the keyfile: --keyfile FILE (to change: --old-keyfile FILE too).", Exit.USAGE)
        return adopting.key(keyfile=base64.b64encode(content(keyfile)).decode())
    question = QUESTIONS[kind]
    text = asked(f"{which}{question.lower()}" if which else question)
    if not text:
        raise CommandFailed(f"no {kind} was given.", Exit.USAGE)
    return adopting.key(**{kind.replace("-", "_"): text})


def _tell(options: argparse.Namespace, ways: Any, sentence: str) -> int:
    if options.json:
        output.result_json(_facts(ways))
        return Exit.OK
    if sentence:
        output.say(sentence)
    for slot in ways.slots:
        notes = {"this console": slot.ours, "leads to no keys in use": not slot.works}
        told = ", ".join(note for note, true in notes.items() if true)
        when = f"{slot.created:%Y-%m-%d %H:%M}" if slot.created else "?"
        output.result(f"{slot.handle}  {slot.kind:<10}  {when}  {slot.label}{f'  ({told})' if told else ''}")
    older = f"; {ways.packs} packs ({output.size(ways.bytes)}) are under older ones" if ways.packs else ""
    output.say(f"key epoch {ways.epoch}{older}")
    return Exit.OK


def _facts(ways: Any) -> dict[str, Any]:
    slots = [{**asdict(slot), "created": slot.created and slot.created.isoformat()} for slot in ways.slots]
    return {"epoch": ways.epoch, "packs_of_older_epochs": ways.packs, "bytes_of_older_epochs": ways.bytes,
            "slots": slots}  # fmt: skip


DEEDS: Mapping[str, Callable[[argparse.Namespace, Any], int]] = {
    "list": _list, "new-code": _new_code, "add": _add, "change": _change, "remove": _remove, "rotate": _rotate,
    "renew": _renew,
}  # fmt: skip
