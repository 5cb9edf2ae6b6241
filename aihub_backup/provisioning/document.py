"""A document with the keys `storage`, `database`, `redis`, `backup_paths` and `disaster_recovery`, in JSON or YAML."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from aihub_backup.core.failures import Invalid
from aihub_backup.core.plugins import PluginTable
from aihub_backup.core.redaction import remember
from aihub_backup.provisioning.wishes import Data, Objectives, Place, Wishes, known, options
from backups.kinds import STORAGES, STRATEGIES
from backups.models import MOST_MINUTES

_STORAGE = {"bucket_name": "bucket", "endpoint": "endpoint_url", "base_path": "path"}  # theirs → ours
_OBJECTIVES = {
    "enable_monitoring": "enabled", "auto_recovery": "auto_recovery", "rpo_minutes": "rpo_minutes",
    "rto_minutes": "rto_minutes",
}  # fmt: skip
# What PyYAML's readers of dates, numbers and tags raise about words that only look like them (2024-02-30).
_UNREADABLE = (ValueError, ArithmeticError, LookupError, AttributeError, TypeError)
_KINDS = {"postgres": "postgresql", "mariadb": "mysql", "rediss": "redis"}  # what addresses begin with → kind


def load(path: Path) -> Mapping[str, Any]:
    """The document of the file. Invalid when it cannot be read, or is no mapping."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows begin with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Invalid(f"{path} cannot be read: {reason}.") from None
    try:
        found = _parsed(path, text)
    except RecursionError:
        raise Invalid(f"{path} is nested too deeply; a document of this kind has a few levels.") from None
    if isinstance(found, dict) and isinstance(found.get("backup_config"), dict) and len(found) == 1:
        found = found["backup_config"]
    if not isinstance(found, dict):
        raise Invalid(f"{path} must hold a mapping with keys such as storage and backup_paths.")
    return found


def wishes(document: Mapping[str, Any], base: Path) -> Wishes:
    """What the document asks for. Relative paths begin at `base`."""
    found = Wishes()
    readers: dict[str, Callable[[Any, Wishes, Path], None]] = {
        "storage": _storage, "database": _database, "redis": _redis, "backup_paths": _paths,
        "disaster_recovery": _objectives,
    }  # fmt: skip
    for name, value in document.items():
        if name not in readers:
            found.unknown.append(str(name))
            continue
        try:
            _refuse_unwritable(name, value)
            readers[name](value, found, base)
        except ValueError as error:
            found.refusals.append(str(error))
    return found


def _parsed(path: Path, text: str) -> Any:
    if path.suffix in (".yaml", ".yml"):
        import yaml

        try:
            return yaml.safe_load(text)
        except RecursionError:
            raise Invalid(f"{path} is nested too deeply, or holds itself.") from None
        except (yaml.YAMLError, *_UNREADABLE) as error:
            raise Invalid(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid(f"{path} is not JSON: {error}. Name a YAML file .yaml.") from None


# --- its keys --------------------------------------------------------------------------------------------------------


def _storage(value: Any, found: Wishes, base: Path) -> None:
    given = dict(_mapping("storage", value))
    kind = str(given.pop("type", ""))
    if kind not in STORAGES:
        raise ValueError(f"storage.type is {kind!r}; the kinds of this version are {', '.join(STORAGES.kinds())}.")
    ours = {_STORAGE.get(name, name): inner for name, inner in given.items()}
    names = {_STORAGE.get(name, name): f"storage.{name}" for name in given}
    if "path" in ours:
        ours["path"] = str(base / _path(names["path"], ours["path"]))
    kept = _understood(STORAGES, kind, ours, names, found)
    found.place = Place(kind, options(STORAGES, kind, kept, names))


def _database(value: Any, found: Wishes, base: Path) -> None:
    given = _mapping("database", value)
    found.unknown += [f"database.{name}" for name in given if name not in ("type", "url")]
    url = _url("database.url", given.get("url"))
    kind = _kind(url)
    told = str(given.get("type") or kind)
    if _KINDS.get(told, told) != kind:
        raise ValueError(f"database.type is {told}, but database.url begins with {url.scheme}://; make them agree.")
    path = str(base / unquote(url.path)[1:]) if kind == "sqlite" else unquote(url.path).strip("/")
    _add(found, "database.url", Path(path).stem or kind, kind, url, {"path": path, "database": path})


def _redis(value: Any, found: Wishes, base: Path) -> None:
    given = _mapping("redis", value)
    found.unknown += [f"redis.{name}" for name in given if name != "url"]
    url = _url("redis.url", given.get("url"))
    if (kind := _kind(url)) != "redis":
        raise ValueError(f"redis.url begins with {url.scheme}://; write redis://host:6379/0.")
    number = url.path.strip("/") or "0"
    _add(found, "redis.url", "redis", kind, url, {"database": number, "db": number, "tls": url.scheme == "rediss"})


def _paths(value: Any, found: Wishes, base: Path) -> None:
    """A source for each: where one is missing the others are backed up all the same."""
    if not isinstance(value, list) or not all(isinstance(path, str) and path for path in value):
        raise ValueError('backup_paths must be a list of paths, such as ["/srv/data", "/etc"].')
    for text in value:
        path = (base / text).resolve()
        given = {"paths": [str(path)]}
        found.data.append(Data(path.name or "everything", "files", options(STRATEGIES, "files", given, {})))


def _objectives(value: Any, found: Wishes, base: Path) -> None:
    given = _mapping("disaster_recovery", value)
    found.unknown += [f"disaster_recovery.{name}" for name in given if name not in _OBJECTIVES]
    wrong = list(_wrong_objectives(given))
    if wrong:
        raise ValueError(" ".join(wrong))
    found.objectives = Objectives(**{ours: given[theirs] for theirs, ours in _OBJECTIVES.items() if theirs in given})


def _wrong_objectives(given: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(_OBJECTIVES.keys() & given.keys()):
        value = given[name]
        if name.endswith("_minutes") and (type(value) is not int or not 1 <= value <= MOST_MINUTES):
            bounds = f"at least 1 and at most {MOST_MINUTES}"
            yield f"disaster_recovery.{name} must be a whole number of minutes, {bounds}; it is {value!r}."
        elif not name.endswith("_minutes") and not isinstance(value, bool):
            yield f"disaster_recovery.{name} must be true or false; it is {value!r}."


# --- words in the document -------------------------------------------------------------------------------------------


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a mapping of names to values.")
    return value


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a path, such as /srv/backups; it is {value!r}.")
    return value


def _refuse_unwritable(name: str, value: Any) -> None:
    """ValueError naming the key whose text no file system, database or terminal could take."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unwritable(name, key)
            _refuse_unwritable(f"{name}.{key}", inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_unwritable(name, inner)
    elif isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
        raise ValueError(f"{name} holds a NUL character or half of one (a lone surrogate); write it without.")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _url(name: str, value: Any) -> SplitResult:
    try:
        url = urlsplit(str(value or ""))
        _ = url.port
    except ValueError:
        raise ValueError(f"{name} is not an address; write kind://user:password@host:port/name.") from None
    if not url.scheme or (not url.netloc and not url.path):
        raise ValueError(f"{name} is not an address; write kind://user:password@host:port/name.")
    remember([unquote(url.password or "")])
    return url


def _kind(url: SplitResult) -> str:
    """The kind that the address means; “postgresql+asyncpg” names a driver beside it."""
    scheme = url.scheme.partition("+")[0]
    return _KINDS.get(scheme, scheme)


def _add(found: Wishes, name: str, called: str, kind: str, url: SplitResult, more: Mapping[str, object]) -> None:
    """A source that is reached at an address. ValueError when this version has no such kind."""
    if kind not in STRATEGIES:
        kinds = ", ".join(STRATEGIES.kinds())
        raise ValueError(f"{name} is of the kind {kind}, which this version cannot back up yet; it knows {kinds}.")
    facts: dict[str, object] = {
        "host": url.hostname, "port": url.port, "user": unquote(url.username or ""),
        "password": unquote(url.password or ""), **more,
    }  # fmt: skip
    fitting = {key: value for key, value in facts.items() if key in known(STRATEGIES, kind) and value not in (None, "")}
    found.data.append(Data(called, kind, options(STRATEGIES, kind, fitting, dict.fromkeys(fitting, name))))


def _understood(
    table: PluginTable[Any], kind: str, given: Mapping[str, Any], names: Mapping[str, str], found: Wishes
) -> dict[str, Any]:
    fitting = known(table, kind)
    found.unknown += [names[name] for name in given if name not in fitting]
    return {name: value for name, value in given.items() if name in fitting}
