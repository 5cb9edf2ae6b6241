"""`aihub storage`, `aihub repository`, `aihub source`: say what is protected and where it is kept."""

from __future__ import annotations

import argparse
import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import IO, Any

from aihub_backup.cli import console, keyring, kinds, output, repairing, space, tending, waiting
from aihub_backup.cli.asking import QUESTIONS, asked, content
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command, pair, verb
from aihub_backup.core.commands import typed
from aihub_backup.core.failures import Refused
from aihub_backup.provisioning import kits

Deed = Callable[[argparse.Namespace], int]


def storage(words: Sequence[str]) -> int:
    """Places for objects."""
    parser, verbs = _noun("storage")
    add = verb(verbs, "add", "add a place")
    _add_options(add, "local")
    add.add_argument("--environment", metavar="NAME", help="where it belongs (default: the only one)")
    kinds.add_verb(verbs)
    verb(verbs, "list", "all places")
    return _do(parser, words, {"add": _add_storage, "kinds": _kinds_of_storages, "list": _list_storages})


def repository(words: Sequence[str]) -> int:
    """Repositories in storages."""
    parser, verbs = _noun("repository")
    create = verb(verbs, "create", "make a repository; shows its recovery kit once")
    create.add_argument("name")
    create.add_argument("--storage", required=True, metavar="NAME")
    create.add_argument("--kit", metavar="FILE", help="write the recovery kit there instead of showing it")
    create.add_argument("--waive-kit", action="store_true", help="accept backups though nobody proved the kit")
    adopt = verb(verbs, "adopt", "take over a repository that is there already (asks for its secret, or reads stdin)")
    adopt.add_argument("name", nargs="?", default="", help="its name here (default: the one it had)")
    adopt.add_argument("--storage", required=True, metavar="NAME")
    adopt.add_argument(
        "--secret", choices=tuple(QUESTIONS), default="recovery-code", help="which one is asked for (the kit's code)"
    )
    adopt.add_argument("--keyfile", metavar="FILE", help="a keyfile instead of a secret that is asked for")
    adopt.add_argument(
        "--take-over", action="store_true", help="also from a console that may be alive, and back from one that took it"
    )
    waiting.add_options(adopt)
    verb(verbs, "prove", "show that the printed recovery code opens it (asks, or reads stdin)").add_argument("name")
    keyring.add_verb(verbs)
    repairing.add_verb(verbs)
    space.add_verb(verbs)
    verb(verbs, "list", "all repositories")
    return _do(parser, words, {
        "adopt": _adopt, "compact": space.compact, "create": _create, "keys": keyring.run, "prove": _prove,
        "repair": repairing.repair, "list": _list_repositories,
    })  # fmt: skip


def source(words: Sequence[str]) -> int:
    """What is protected."""
    parser, verbs = _noun("source")
    add = verb(verbs, "add", "add something to protect")
    _add_options(add, "files")
    add.add_argument("--repository", metavar="NAME", help="where its backups go (default: the only one)")
    add.add_argument("--environment", metavar="NAME", help="where it belongs (default: the only one)")
    own = verb(verbs, "console", "protect the console itself: its database daily, its keys sealed beside it")
    own.add_argument("--repository", metavar="NAME", help="where to (default: where it is, else the only one)")
    kinds.add_verb(verbs)
    verb(verbs, "list", "all sources")
    tending.add_verbs(verbs)
    return _do(parser, words, {
        "add": _add_source, "console": _protect_console, "kinds": _kinds_of_sources, "list": _list_sources,
        "test": tending.test, "change": partial(tending.change, values=_values), "pause": tending.pause,
        "resume": tending.resume,
    })  # fmt: skip


def _noun(name: str) -> tuple[argparse.ArgumentParser, Any]:
    parser = command(name)
    return parser, parser.add_subparsers(dest="verb", required=True, metavar="VERB")


def _add_options(parser: argparse.ArgumentParser, kind: str) -> None:
    parser.add_argument("name")
    parser.add_argument(
        "--kind", default=kind, help=f"its kind (default: {kind}; “kinds” lists all with their options)"
    )
    parser.add_argument("--option", metavar="NAME=VALUE", action="append", default=[], help="repeat it for a list")
    parser.add_argument(
        "--secret-file", metavar="NAME=FILE", action="append", default=[], help="an option whose value is in a file"
    )


def _do(parser: argparse.ArgumentParser, words: Sequence[str], verbs: Mapping[str, Deed]) -> int:
    options = parser.parse_args(words)
    with console.opened(options.home):
        return verbs[options.verb](options)


# --- deeds ------------------------------------------------------------------------------------------------------------


def _kinds_of_storages(options: argparse.Namespace) -> int:
    from backups.kinds import STORAGES

    return kinds.show(options, STORAGES)


def _kinds_of_sources(options: argparse.Namespace) -> int:
    from backups.kinds import STRATEGIES

    return kinds.show(options, STRATEGIES)


def _add_storage(options: argparse.Namespace) -> int:
    from backups.kinds import STORAGES
    from backups.services import storages

    values = _values(options, STORAGES.load(options.kind).Options)
    made = storages.create(options.name, options.kind, values, by=console.actor(), environment=_environment(options))
    return _made(options, made, "storage")


def _environment(options: argparse.Namespace) -> Any:
    from aihub_backup.core.models import Environment
    from backups.services import lookup

    return lookup.find(Environment.objects.all(), options.environment) if options.environment else None


def _add_source(options: argparse.Namespace) -> int:
    from backups.kinds import STRATEGIES
    from backups.models import Repository
    from backups.services import lookup, sources

    values = _values(options, STRATEGIES.load(options.kind).Options)
    where = lookup.find(Repository.objects.all(), options.repository) if options.repository else None
    made = sources.create(
        options.name, options.kind, values, by=console.actor(), repository=where, environment=_environment(options)
    )  # fmt: skip
    return _made(options, made, "source")


def _protect_console(options: argparse.Namespace) -> int:
    from backups.models import OwnProtection, Repository
    from backups.services import console as own
    from backups.services import lookup, repositories

    known = OwnProtection.objects.select_related("repository__storage__node").first()
    where = lookup.find(Repository.objects.all(), options.repository) if options.repository else None
    where = where or (known.repository if known else repositories.default())
    row = own.protect(where, by=console.actor())
    if options.json:
        output.result_json({"source": row.source.name, "schedule": row.schedule.name, "repository": where.name})
    else:
        output.result(f"the console is the source “{row.source}”, backed up daily; its keys are sealed in “{where}”")
    return Exit.OK


def _create(options: argparse.Namespace) -> int:
    from backups.models import Storage
    from backups.services import lookup, repositories

    place = lookup.find(Storage.objects.all(), options.storage)
    with kits.new_file(options.kit) as file:
        kit = repositories.create(options.name, place, by=console.actor(), waive_kit=options.waive_kit)
        written = _written(file, kit.text)
    _hand_over(options, kit, in_file=written)
    if not options.waive_kit:
        output.say(f"Now prove that the code is kept: {typed('repository', 'prove', options.name)}")
    return Exit.OK if written or not options.kit else Exit.FAILED


def _written(file: IO[str] | None, text: str) -> bool:
    """Is the text in the file, and on the disk?"""
    why = kits.written(file, text)
    if file is not None and why:
        output.complain(f"the kit could not be written to its file: {why}; here it is, keep it.")
    return not why


def _hand_over(options: argparse.Namespace, kit: Any, *, in_file: bool) -> None:
    """The kit goes to the person, once: it is in their file, or else here."""
    facts = {"id": str(kit.repository.pk), "name": kit.repository.name, "repository_id": kit.repository_id}
    facts |= {"kit_file": os.path.abspath(options.kit)} if in_file else {"recovery_code": kit.code}
    if options.json:
        output.result_json(facts)
    else:
        output.result(f"the repository “{options.name}” is made" if in_file else kit.text)


def _adopt(options: argparse.Namespace) -> int:
    from backups.models import Repository, Storage
    from backups.services import adopting, lookup

    place = lookup.find(Storage.objects.all(), options.storage)
    ours = Repository.objects.filter(storage=place).exclude(state="creating").exists()
    row, job = adopting.adopt(
        place, None if ours else _opening(options), by=console.actor(), name=options.name, take_over=options.take_over
    )
    if options.wait:
        waiting.until_ended(f"the adoption of “{row}”", lambda: _look_at(job), options.timeout)
    return _tell_adoption(options, row, job)


def _opening(options: argparse.Namespace) -> Any:
    """The secret, from a file or from the keyboard."""
    from backups.services import adopting

    if options.keyfile:
        return adopting.key(keyfile=base64.b64encode(content(options.keyfile)).decode())
    name = options.secret.replace("-", "_")
    return adopting.key(**{name: asked(QUESTIONS[options.secret])})


def _look_at(job: Any) -> tuple[bool, str, dict[str, Any]]:
    job.refresh_from_db()
    return job.finished, job.state, dict(job.progress)


def _tell_adoption(options: argparse.Namespace, row: Any, job: Any) -> int:
    row.refresh_from_db()
    told = {"id": str(row.pk), "name": row.name, "repository_id": row.engine_id, "state": job.state, **job.progress}
    if options.json:
        output.result_json({**told, **({"error": job.error_message} if job.error_message else {})})
    elif job.state == "completed":
        new = job.progress.get("new", {})
        output.result(
            f"“{row}” is adopted: {told.get('points', 0)} recovery points, {new.get('backups', 0)} new backups,"
            f" {new.get('sources', 0)} new sources (paused until they were tested)"
        )
    else:
        output.result(f"the adoption of “{row}” is {job.state}. {job.error_message}".rstrip())
    if row.state == "taken_over":
        output.complain(f"“{row}” can be read; another console owns it still: add --take-over to write here again.")
    for sentence in job.progress.get("damaged", ()):
        output.complain(sentence)
    if job.state == "failed":
        return Exit.FAILED
    return Exit.WARNINGS if job.progress.get("damaged_count") else Exit.OK


def _prove(options: argparse.Namespace) -> int:
    from backups.models import Repository
    from backups.services import lookup, repositories

    found = lookup.find(Repository.objects.all(), options.name)
    repositories.prove_kit(found, asked("Recovery code: "), by=console.actor())
    bar = _bar(found)
    output.say(f"the recovery code opens “{found}”{'.' if bar else '; backups are accepted from now on.'}")
    if bar:
        output.complain(bar)
    return Exit.OK


def _bar(repository: Any) -> str:
    """What keeps backups out of it, whatever its kit; "" nothing."""
    from backups.services import repositories

    try:
        repositories.must_be_writable(repository)
    except Refused as refusal:
        return refusal.message
    return ""


def _list_storages(options: argparse.Namespace) -> int:
    from backups.models import Storage

    rows = Storage.objects.select_related("environment")
    return _listed(options, rows, lambda row: {"kind": row.kind, "environment": row.environment.name})


def _list_repositories(options: argparse.Namespace) -> int:
    from backups.models import Repository

    rows = Repository.objects.select_related("storage")
    facts = {"state": "state", "storage": "storage.name", "kit settled": "kit_settled"}
    return _listed(options, rows, lambda row: {name: _reached(row, path) for name, path in facts.items()})


def _list_sources(options: argparse.Namespace) -> int:
    from backups.models import Source

    rows = Source.objects.filter(archived_at=None).select_related("environment", "repository")
    return _listed(options, rows, lambda row: {
        "kind": row.kind, "environment": row.environment.name, "enabled": row.enabled,
        "repository": row.repository.name if row.repository else "",
    })  # fmt: skip


# --- words in, words out ----------------------------------------------------------------------------------------------


def _values(options: argparse.Namespace, declared: type[Any]) -> dict[str, object]:
    """The options of a plug-in from NAME=VALUE words; an option that is a list takes every value that is given."""
    from aihub_backup.core.options import schema

    properties = schema(declared)["properties"]
    found: dict[str, object] = {}
    for word in options.option:
        name, value = pair(word)
        if properties.get(name, {}).get("type") == "array":
            known = found.setdefault(name, [])
            assert isinstance(known, list)
            known.append(value)
        else:
            found[name] = _typed(value, properties.get(name, {}).get("type"))
    for word in options.secret_file:
        name, path = pair(word)
        found[name] = _content(path)
    return found


def _typed(value: str, wanted: object) -> object:
    """Numbers and yes/no as JSON has them; everything else stays text."""
    try:
        return json.loads(value) if wanted in ("integer", "number", "boolean", "object") else value
    except ValueError:
        return value


def _content(path: str) -> str:
    try:
        return content(path).decode().rstrip("\n")
    except UnicodeDecodeError:
        raise CommandFailed(f"{path} holds no UTF-8 text; a secret has to be text.", Exit.USAGE) from None


def _made(options: argparse.Namespace, row: Any, noun: str) -> int:
    if options.json:
        output.result_json({"id": str(row.pk), "name": row.name, "kind": row.kind})
    else:
        output.result(f"the {noun} “{row.name}” is there and was reached")
    return Exit.OK


def _listed(options: argparse.Namespace, rows: Any, facts: Callable[[Any], dict[str, Any]]) -> int:
    found = [{"name": row.name, "id": str(row.pk), **facts(row)} for row in rows]
    if options.json:
        output.result_json(found)
    elif found:
        output.result(output.table(list(found[0]), [list(one.values()) for one in found]))
    return Exit.OK


def _reached(row: Any, path: str) -> Any:
    for name in path.split("."):
        row = getattr(row, name)
    return row
