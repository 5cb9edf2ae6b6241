"""The engine's own face: python -m backups.engine init|backup|list|restore|check|repair|copy|forget|compact|find|…

No Django and no database. REPOSITORY is a directory or s3://BUCKET/PREFIX (backups.engine.stores.address tells which
variables hold the rest). The secret comes from AIHUB_PASSPHRASE, AIHUB_RECOVERY_CODE or
the file AIHUB_KEYFILE; caches live in AIHUB_CACHE_DIR. Data goes to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from backups import engine
from backups.engine import arguments, copyverb, errors, given, keyverbs, rekey
from backups.engine.ahead import Beside
from backups.engine.disk import from_printable, printable
from backups.engine.keys import Secret, new_recovery_code
from backups.engine.patterns import PathFilter
from backups.engine.scan import resolve, scan
from backups.engine.store import Place
from backups.engine.stores.address import open_address, open_addresses
from backups.engine.stores.retrying import RetryingStore

EXIT_FAILED, EXIT_USAGE, EXIT_WARNINGS, EXIT_NOT_FOUND, EXIT_DAMAGE = 1, 2, 3, 4, 5
EXIT_NOT_ALLOWED, EXIT_IN_THE_WAY, EXIT_UNREACHABLE = 7, 8, 11  # the numbers of the whole command line

_EXITS: tuple[tuple[type[errors.EngineError], int], ...] = (  # the first that fits
    (errors.InvalidOption, EXIT_USAGE),
    (errors.StoreAbsent, EXIT_NOT_FOUND),
    (errors.SnapshotMissing, EXIT_NOT_FOUND),
    (errors.KeysMissing, EXIT_NOT_FOUND),
    (errors.NotARepository, EXIT_NOT_FOUND),
    (errors.WrongSecret, EXIT_NOT_ALLOWED),
    (errors.RepositoryExists, EXIT_IN_THE_WAY),
    (errors.StoreUnavailable, EXIT_UNREACHABLE),
    (errors.ObjectDamaged, EXIT_DAMAGE),
    (errors.ObjectMissing, EXIT_DAMAGE),
    (errors.BlobMissing, EXIT_DAMAGE),
    (errors.Tampered, EXIT_DAMAGE),
)


def main(argv: Sequence[str] | None = None) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the keys
    options = arguments.parser(__doc__.splitlines()[0], VERBS).parse_args(argv)
    try:
        return int(options.run(options))
    except errors.EngineError as error:
        return _failed(error, options.json)
    except KeyboardInterrupt:
        return 130


def _leave(code: int) -> NoReturn:
    """End at once: all is done, and the interpreter would take apart every object of the run first. What could not be
    printed is a failure."""
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: whoever started us closed it
            stream.flush()
    except OSError:
        code = code or EXIT_FAILED
    os._exit(code)


def _failed(error: errors.EngineError, as_json: bool) -> int:
    if as_json:
        _print({"error": str(error), "code": type(error).__name__})
    sys.stderr.write(f"{error}\n")
    return next((code for kind, code in _EXITS if isinstance(error, kind)), EXIT_FAILED)


# verbs


def _init(options: argparse.Namespace) -> int:
    code = new_recovery_code() if options.recovery_code else ""
    secrets = [(given.secret(), "command line")]
    if code:
        secrets.append((Secret.recovery_code(code), "recovery code"))
    repository = engine.Repository.create(_store(options), secrets, cache=_cache())
    result = {"repository": repository.config.id.hex(), "recovery_code": code}
    _say(options, result, f"Repository {result['repository']} made in {_shown(options.repository)}.")
    if code and not options.json:
        _write(f"Recovery code, print it and keep it elsewhere:\n\n    {code}\n")
    return 0


def _backup(options: argparse.Namespace) -> int:
    _refuse_loop(options)
    started = time.monotonic()
    items: list[engine.ItemError] = []
    repository, roots, entries = _opened_beside_scan(options, items.append)
    rekey.tidy(repository)
    facts = {"kind": "files", "roots": ["/" + printable(root) for root in roots],
             "excludes": list(map(_shown, options.exclude))}  # fmt: skip
    done = engine.archive(
        repository, entries, snapshot_id=str(uuid.uuid4()), facts=lambda: facts, parent=_parent(repository, facts),
        options=engine.Options(options.workers, options.codec, options.level, assume_unchanged=not options.full),
        report=items.append, progress=_progress(options),
    )  # fmt: skip
    _say_items(items)
    seconds = time.monotonic() - started
    result = {"snapshot": done.snapshot.id, "seconds": round(seconds, 3), **done.stats.pack()}
    _say(options, result, f"Snapshot {done.snapshot.id}: {_sizes(done.stats)} in {seconds:.1f} s.")
    return EXIT_WARNINGS if items else 0


def _opened_beside_scan(
    options: argparse.Namespace, report: Callable[[engine.ItemError], None]
) -> tuple[engine.Repository, list[bytes], Iterator[engine.Entry]]:
    """(repository, roots, entries). A passphrase takes a tenth of a second, in which the scan gets ahead."""
    opening = Beside(lambda: _open(options, recall=True))
    try:
        roots = resolve([os.path.abspath(os.fsencode(source)) for source in options.source])
        entries = scan(
            [b"/" + root for root in roots],
            excludes=options.exclude,
            one_file_system=options.one_file_system,
            report=report,
        )
        found = opening.meanwhile(entries)
        return opening.result(), roots, found
    except errors.EngineError:
        opening.result()  # what is wrong with the repository is told first
        raise


def _list(options: argparse.Namespace) -> int:
    repository = _open(options)
    if options.snapshot is None:
        rows = [_snapshot_row(snapshot) for snapshot in repository.snapshots]
        _say(options, rows, "\n".join(map(_snapshot_line, rows)))
        return 0
    snapshot = repository.log.snapshot(options.snapshot)
    for entry in engine.entries(repository, snapshot, options.path.strip(b"/")):
        row = {"path": printable(entry.path), "kind": entry.kind.name.lower(), "size": entry.size, "mode": entry.mode}
        _say(options, row, f"{entry.mode:06o} {entry.kind.name.lower():>9} {entry.size:>14} {row['path']}")
    return 0


def _restore(options: argparse.Namespace) -> int:
    place = _directory(options)
    if place and _inside(os.path.realpath(os.fsencode(options.target)), place):
        raise errors.TargetError(
            f"--target lies in the repository {_shown(options.repository)}; choose another directory."
        )
    repository = _open(options)
    snapshot = repository.log.snapshot(options.snapshot)
    items: list[engine.ItemError] = []
    base = _base(snapshot) if options.base is None else options.base.strip(b"/")
    select = PathFilter(options.include, options.exclude) if options.include or options.exclude else None
    started = time.monotonic()
    done = engine.restore(
        repository, snapshot, os.path.abspath(os.fsencode(options.target)), base=base, select=select,
        options=engine.RestoreOptions(options.workers, privileges=options.privileges),
        report=items.append, progress=_restored(options),
    )  # fmt: skip
    _say_items(items)
    seconds = time.monotonic() - started
    result = {"snapshot": snapshot.id, "seconds": round(seconds, 3), **done.pack()}
    _say(options, result, f"{done.items} items, {done.bytes} bytes restored in {seconds:.1f} s.")
    if options.include and not done.items:
        sys.stderr.write("Nothing in the snapshot fits --include; list it to see its paths.\n")
        return EXIT_NOT_FOUND
    if any(item.severity == "error" and not item.unsupported for item in items):
        return EXIT_DAMAGE
    return EXIT_WARNINGS if items else 0


def _check(options: argparse.Namespace) -> int:
    repository = _open(options)
    chosen = [repository.log.snapshot(name) for name in options.snapshot] if options.snapshot else None
    done = engine.check(repository, options.level, snapshots=chosen, read_share=options.read_share)
    problems = list(map(_problem, done.problems))
    result = {"level": done.level, "objects": done.objects, "bytes": done.bytes, "unused_packs": done.unused_packs,
              "removed_keys": done.removed_keys, "problems": problems}  # fmt: skip
    for name in done.removed_keys:
        sys.stderr.write(f"{name}: it was removed, and lies here all the same: it opens nothing; delete it\n")
    _say_problems(problems)
    _say(options, result, f"{done.objects} objects, {done.bytes} bytes read, {len(problems)} problems.")
    return EXIT_DAMAGE if problems else 0


def _repair(options: argparse.Namespace) -> int:
    store, *copies = map(RetryingStore, open_addresses([options.repository, *options.copies], os.environ))
    done = engine.repair(
        store, given.secret(), copies, dry_run=options.dry_run, workers=options.workers,
        progress=_repairing(options),
    )  # fmt: skip
    problems, deeds = list(map(_problem, done.problems)), [deed._asdict() for deed in done.deeds]
    result = {"dry_run": done.dry_run, "deeds": deeds, "problems": problems, "orphans": done.orphans,
              "set_aside": done.set_aside, "returned": done.returned, "forgotten": done.forgotten,
              "snapshots": done.snapshots, "bytes_read": done.bytes_read,
              "bytes_copied": done.bytes_copied}  # fmt: skip
    if not options.json:
        for deed in done.deeds:
            _write(f"{'to be ' if done.dry_run else ''}{deed.what} {deed.object} ({deed.bytes} bytes): {deed.why}\n")
        for name in done.orphans:
            _write(f"orphan {name}: no snapshot needs it; it stays\n")
    _say_problems(problems)
    what = "remedies found" if done.dry_run else "remedies applied"
    _say(options, result, f"{len(deeds)} {what}, {done.bytes_copied} bytes from copies, {len(problems)} problems left.")
    return EXIT_DAMAGE if problems or (done.dry_run and deeds) else 0


def _copy(options: argparse.Namespace) -> int:
    done = copyverb.run(options, _cache(), lambda value, text: _say(options, value, text))
    _say_problems(list(map(_problem, done.problems)))
    return EXIT_DAMAGE if done.problems else 0


def _forget(options: argparse.Namespace) -> int:
    repository = _open(options)
    ids = [repository.log.snapshot(name).id for name in options.snapshot]
    repository.log.append("forget", {"forget": ids, "reason": "command line"})
    repository.remember_leaves()
    _say(options, {"forgotten": ids}, f"Forgotten: {', '.join(ids)}.")
    return 0


def _compact(options: argparse.Namespace) -> int:
    """Nobody can say who else has the repository open: one run marks, a later one sweeps."""
    repository = _open(options)
    wished = engine.CompactOptions(options.unused, options.budget, options.codec, options.level)
    if options.dry_run:
        plan = engine.preview(repository, wished)
        _say(options, plan.pack(), _foreseen(plan))
        return 0
    items: list[engine.ItemError] = []
    done = engine.compact(repository, wished, report=items.append)
    _say_items(items)
    words = f"{done.deleted} objects deleted, {done.freed} bytes given back; {done.marked} bytes marked"
    later = ": run it again in a day to give them back" if done.marked else ""
    _say(options, done.pack(), f"{_foreseen(done.plan)}\n{words}{later}.")
    return EXIT_WARNINGS if items else 0


def _foreseen(plan: engine.Plan) -> str:
    renewal = f" Of {plan.outdated} bytes under older keys {plan.renewed} come under the new one."
    return (
        f"{plan.stored} bytes in packs, {plan.unused} unused, {plan.leaving} marked earlier; "
        f"{len(plan.victims)} packs to go, {len(plan.orphans)} of crashed runs: {plan.carried} bytes stored anew, "
        f"{plan.freed} to be given back.{renewal if plan.outdated else ''}"
    )


def _diff(options: argparse.Namespace) -> int:
    repository = _open(options)
    before, after = repository.log.snapshot(options.before), repository.log.snapshot(options.after)
    for change in engine.diff_with_moves(repository, before, after):
        row = {"change": str(change.kind), "path": printable(change.path)}
        if change.kind is engine.Difference.MOVED and change.before:
            row["from"] = printable(change.before.path)
        _say(options, row, f"{row['change']:>10} {row['path']}{' from ' + row['from'] if 'from' in row else ''}")
    return 0


def _find(options: argparse.Namespace) -> int:
    repository, nothing = _open(options), True
    chosen = [repository.log.snapshot(name) for name in options.snapshot] if options.snapshot else None
    for found in engine.find(repository, options.wanted, chosen):
        nothing = False
        versions = [
            {"content": version.id, "kind": version.entry.kind.name.lower(), "size": version.entry.size,
             "mtime_ns": version.entry.mtime_ns, "snapshots": version.snapshots}
            for version in found.versions
        ]  # fmt: skip
        row = {"path": printable(found.path), "versions": versions}
        _say(options, row, "\n".join([f"/{row['path']}", *map(_version_line, versions)]))
    return EXIT_NOT_FOUND if nothing else 0


def _version_line(version: Mapping[str, Any]) -> str:
    when = datetime.fromtimestamp(version["mtime_ns"] / 1e9, UTC).isoformat(timespec="seconds")
    held = f"{len(version['snapshots'])} snapshots, {version['snapshots'][0]} to {version['snapshots'][-1]}"
    return f"  {version['content'][:16]:16}  {version['size']:>14}  {when}  {held}"


def _keys(options: argparse.Namespace) -> int:
    return keyverbs.run(_open(options), options, lambda value, text: _say(options, value, text))


def _problem(problem: engine.Problem) -> dict[str, Any]:
    return {**problem._asdict(), "paths": [printable(path) for path in problem.paths]}


def _say_problems(problems: Sequence[Mapping[str, Any]]) -> None:
    for problem in problems:
        sys.stderr.write(f"{problem['object'] or 'tree'}: {problem['message']}; harms {problem['paths_count']} paths\n")


# opening


def _directory(options: argparse.Namespace) -> bytes:
    """The repository's directory; empty when it is no directory of this machine."""
    return b"" if "://" in options.repository else os.path.realpath(os.fsencode(options.repository))


def _inside(path: bytes, place: bytes) -> bool:
    return path == place or path.startswith(place.rstrip(b"/") + b"/")


def _refuse_loop(options: argparse.Namespace) -> None:
    """EngineError when the backup would read the repository itself: each would store those before it."""
    place = _directory(options)
    if not place or not PathFilter((), options.exclude).selects(place.strip(b"/"), True):
        return
    for source in options.source:
        root = os.path.realpath(os.fsencode(source))
        if _inside(root, place) or _inside(place, root):
            raise errors.EngineError(
                f"{_shown(source)} holds the repository {_shown(options.repository)} itself: each backup would store "
                f"those before it. Leave it out with --exclude {printable(place)}, or choose a repository elsewhere."
            )


def _store(options: argparse.Namespace) -> Place:
    return RetryingStore(open_address(options.repository, os.environ))


def _open(options: argparse.Namespace, *, recall: bool = False) -> engine.Repository:
    return engine.Repository.open(_store(options), given.secret(), cache=_cache(), recall=recall)


def _cache() -> Path:
    place = os.environ.get("AIHUB_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/aihub-backup"
    return Path(place).expanduser()


def _parent(repository: engine.Repository, facts: dict[str, Any]) -> engine.Snapshot | None:
    """The newest snapshot of the same roots."""
    return next((s for s in repository.log.live.latest_first() if s.facts.get("roots") == facts["roots"]), None)


def _base(snapshot: engine.Snapshot) -> bytes:
    """The directory that becomes the target: what the strategy named, else what the roots share."""
    captured = _captured(snapshot.facts)
    if "base" in captured:
        return os.fsencode(captured["base"]).strip(b"/")  # plain text, unlike the roots that are listed below
    return os.path.commonpath([from_printable(root) for root in captured.get("roots", ["/"])]).strip(b"/")


def _captured(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was captured; snapshots of the console keep it beside what the console knows."""
    captured: Mapping[str, Any] = facts.get("captured", facts)
    return captured


# telling


def _print(value: Any) -> None:
    _write(json.dumps(value) + "\n")


def _write(text: str) -> None:
    sys.stdout.write(text)


def _say(options: argparse.Namespace, value: Any, text: str) -> None:
    if options.json:
        _print(value)
    elif text:
        _write(text + "\n")


def _shown(typed: str) -> str:
    """What was typed, as names are shown: odd bytes as \\xNN."""
    return printable(os.fsencode(typed))


def _say_items(items: list[engine.ItemError]) -> None:
    for item in items:
        sys.stderr.write(f"{item.severity}: /{printable(item.path)}: {item.message}\n")


def _sizes(stats: engine.Stats) -> str:
    return f"{stats.items} items, {stats.bytes} bytes, {stats.bytes_read} read, {stats.bytes_stored} stored"


def _progress(options: argparse.Namespace) -> Callable[[engine.Stats], None]:
    def tell(stats: engine.Stats) -> None:
        if not options.quiet and sys.stderr.isatty():
            sys.stderr.write(f"\r{_sizes(stats)}\033[K")

    return tell


def _restored(options: argparse.Namespace) -> Callable[[engine.Restored], None]:
    def tell(done: engine.Restored) -> None:
        if not options.quiet and sys.stderr.isatty():
            sys.stderr.write(f"\r{done.items} items, {done.bytes} bytes\033[K")

    return tell


def _repairing(options: argparse.Namespace) -> Callable[[str, engine.Repaired], None]:
    def tell(phase: str, done: engine.Repaired) -> None:
        if not options.quiet and sys.stderr.isatty():
            sys.stderr.write(f"\r{phase}: {done.bytes_read} of {done.bytes_expected} bytes\033[K")

    return tell


def _snapshot_row(snapshot: engine.Snapshot) -> dict[str, Any]:
    when = datetime.fromtimestamp(snapshot.time, UTC).isoformat(timespec="seconds")
    return {"id": snapshot.id, "time": when, "entries": snapshot.entries, "size": snapshot.size,
            "facts": dict(snapshot.facts)}  # fmt: skip


def _snapshot_line(row: Mapping[str, Any]) -> str:
    source = row["facts"].get("source", {}).get("name") or " ".join(_captured(row["facts"]).get("roots", ()))
    return f"{row['id']}  {row['time']}  {row['entries']:>9}  {row['size']:>14}  {source}"


VERBS: Mapping[str, arguments.Verb] = {
    "init": _init, "backup": _backup, "list": _list, "restore": _restore, "check": _check,
    "repair": _repair, "copy": _copy, "find": _find, "forget": _forget, "compact": _compact, "diff": _diff,
    "keys": _keys,
}  # fmt: skip


if __name__ == "__main__":
    _leave(main())
