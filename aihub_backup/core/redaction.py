"""Keep secrets out of everything people and files can see. No Django: the runner and the strategies use it too."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

T = TypeVar("T")

MASK = "***"
SECRET_MARK = "secret"  # noqa: S105  # no secret: the key in a dataclass field's metadata
SHORTEST = 4  # shorter values occur in ordinary words; masking them would make every message unreadable
_MOST = 20_000  # a bound for processes that live for months: the oldest values are forgotten first

_known: dict[str, None] = {}
_lock = threading.Lock()

_NAMES = r"(?:password|passwd|passphrase|secret(?:_access)?_?key|api_?key|access_?token|pgpassword)"
# Written forms only (URL, header, assignment, JSON): a sentence about a password must stay readable.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+(@)"), rf"\1{MASK}\2"),
    (re.compile(r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?[a-z0-9-]+\s+)[^\s\"']+"), rf"\1{MASK}"),
    (re.compile(r"(?i)(\bbearer\s+)(?=\S*\d)[^\s\"']{16,}"), rf"\1{MASK}"),
    (re.compile(r"\b(aihub_)[0-9a-f]{40,}"), rf"\1{MASK}"),
    (re.compile(rf"(?i)({_NAMES}(?:[\"']\s*:\s*[\"']|\s*=\s*[\"']?))[^\s\"',;&]+"), rf"\1{MASK}"),
)


def remember(values: Iterable[object]) -> None:
    """Mask these texts (and their URL and JSON spellings) in this process from now on; numbers are no secrets."""
    with _lock:
        for value in values:
            if isinstance(value, (str, bytes)):
                _known.update(dict.fromkeys(_spellings(value)))
        while len(_known) > _MOST:
            del _known[next(iter(_known))]


def scrub(text: str) -> str:
    """The text without any remembered secret and without anything that looks like one."""
    for value in sorted(_present(text), key=len, reverse=True):
        text = text.replace(value, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def sensitive(cls: type[T]) -> type[T]:
    """Class decorator: `repr` shows a dataclass with its secret fields masked."""

    def masked(self: Any) -> str:
        return f"{type(self).__name__}({', '.join(_shown(self))})"

    cls.__repr__ = masked  # type: ignore[method-assign]  # replacing repr is the whole purpose
    return cls


class Redacted(dict[str, Any]):
    """A dict of secrets whose `repr` and `str` tell only the names."""

    def __repr__(self) -> str:
        return f"<secrets: {', '.join(sorted(self)) or 'none'}>"

    __str__ = __repr__


def leaves(value: object) -> Iterator[object]:
    """Every plain value inside nested mappings and sequences."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from leaves(inner)
    elif value is not None:
        yield value


def masked_facts(facts: Mapping[str, object], secret_names: Callable[[str], bool]) -> dict[str, object]:
    """A copy in which the values under secret names are masked and every text is scrubbed, at any depth."""
    return {key: MASK if secret_names(key) else _masked(value, secret_names) for key, value in facts.items()}


def _masked(value: object, secret_names: Callable[[str], bool]) -> object:
    if isinstance(value, Mapping):
        return masked_facts(value, secret_names)
    if isinstance(value, (list, tuple)):
        return [_masked(inner, secret_names) for inner in value]
    return scrub(value) if isinstance(value, str) else value


def _present(text: str) -> list[str]:
    with _lock:
        return [value for value in _known if value in text]


def _spellings(value: str | bytes) -> set[str]:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    spellings = {text, quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1], repr(text)[1:-1]}
    return {spelling for spelling in spellings if len(spelling) >= SHORTEST}


def _shown(instance: Any) -> Iterator[str]:
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        secret = field.metadata.get(SECRET_MARK) and value not in (None, "")
        yield f"{field.name}={MASK if secret else repr(value)}"
