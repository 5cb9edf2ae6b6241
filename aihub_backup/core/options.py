"""Options of a plug-in: one frozen dataclass from which validation, admin form and API schema are made.

No Django here, so that strategies and stores may declare their options with it:

    @sensitive
    @dataclass(frozen=True)
    class Options:
        host: str = option(label="Host")
        port: int = option(5432, label="Port", minimum=1, maximum=65535)
        password: str = secret(label="Password")
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from aihub_backup.core.failures import Invalid
from aihub_backup.core.redaction import SECRET_MARK

T = TypeVar("T")

MISSING: Any = dataclasses.MISSING
ADDRESS_MARK = "addresses"


class OptionsError(Invalid):
    """Some values are wrong: `errors` maps field name → sentence ("" = about the values together)."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        listed = " ".join(f"{name}: {sentence}" if name else sentence for name, sentence in errors.items())
        super().__init__(f"The options are not valid. {listed}", errors=errors)


def option(
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] = MISSING,
    label: str = "",
    help: str = "",  # noqa: A002  # the word every form library uses
    minimum: float | None = None,
    maximum: float | None = None,
    pattern: str = "",
    choices: Sequence[str] = (),
    multiline: bool = False,
    placeholder: str = "",
    addresses: bool = False,
) -> Any:
    """A dataclass field with what forms and schemas need to know. Without a default it is required.

    `minimum`/`maximum` bound numbers, and the length of texts and lists; `pattern` must match a whole text;
    `placeholder` is an example for an empty form; `addresses` marks what decides who will be told the secrets (host,
    port, TLS, client program): stored secrets are never sent to another address than the one they were given for.
    """
    facts = {
        "label": label, "help": help, "minimum": minimum, "maximum": maximum,
        "pattern": pattern, "choices": tuple(choices), "multiline": multiline, "placeholder": placeholder,
        ADDRESS_MARK: addresses,
    }  # fmt: skip
    return _field(default, factory, facts)


def secret(
    default: Any = MISSING,
    *,
    label: str = "",
    help: str = "",  # noqa: A002  # the word every form library uses
    multiline: bool = False,
) -> Any:
    """A dataclass field that is encrypted at rest, write-only in forms and API, and absent from repr and audit."""
    facts = {"label": label, "help": help, "multiline": multiline, SECRET_MARK: True}
    return _field(default, MISSING, facts)


def parse(cls: type[T], values: Mapping[str, object]) -> T:
    """An instance of `cls` from form, JSON or environment values ("5" becomes 5); OptionsError names every wrong field.

    The class may check fields against each other in `__post_init__` and raise ValueError or OptionsError there.
    """
    found, errors = _converted(cls, values)
    if errors:
        raise OptionsError(errors)
    try:
        return cls(**found)
    except OptionsError:
        raise
    except ValueError as error:
        raise OptionsError({"": str(error)}) from error


def dump(instance: Any) -> dict[str, Any]:
    """The instance as JSON-able values that `parse` understands; includes the secrets."""
    return {field.name: _plain(getattr(instance, field.name)) for field in dataclasses.fields(instance)}


def split(cls: type[Any], values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(plain, secrets): which of the values may be shown and stored in the clear, and which may not."""
    names = secret_names(cls)
    plain = {name: value for name, value in values.items() if name not in names}
    return plain, {name: value for name, value in values.items() if name in names}


def secret_names(cls: type[Any]) -> frozenset[str]:
    """Names of the fields declared with `secret()`."""
    return frozenset(field.name for field in dataclasses.fields(cls) if field.metadata.get(SECRET_MARK))


def address_names(cls: type[Any]) -> tuple[str, ...]:
    """Names of the fields declared with `addresses`, in their order."""
    return tuple(field.name for field in dataclasses.fields(cls) if field.metadata.get(ADDRESS_MARK))


def schema(cls: type[Any]) -> dict[str, Any]:
    """JSON Schema (2020-12) of the options; secrets are `writeOnly`."""
    fields = dataclasses.fields(cls)
    return {
        "type": "object",
        "properties": {field.name: _property(cls, field) for field in fields},
        "required": [field.name for field in fields if _required(field)],
        "additionalProperties": False,
    }


# --- declaring ------------------------------------------------------------------------------------------------------


def _field(default: Any, factory: Any, facts: Mapping[str, Any]) -> Any:
    shown = not facts.get(SECRET_MARK)
    if factory is not MISSING:
        return dataclasses.field(default_factory=factory, repr=shown, metadata=facts)
    return dataclasses.field(default=default, repr=shown, metadata=facts)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _types(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


# --- reading values -------------------------------------------------------------------------------------------------


def _converted(cls: type[Any], values: Mapping[str, object]) -> tuple[dict[str, Any], dict[str, str]]:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    errors = {name: "There is no such option." for name in values if name not in fields}
    found: dict[str, Any] = {}
    for name, field in fields.items():
        try:
            _read(cls, field, values, found)
        except ValueError as error:
            errors[name] = str(error)
    return found, errors


def _read(cls: type[Any], field: dataclasses.Field[Any], values: Mapping[str, object], found: dict[str, Any]) -> None:
    wanted = _types(cls)[field.name]
    raw = values.get(field.name)
    empty = raw is None or (raw == "" and _without_none(wanted) is not str)
    if field.name not in values or empty:
        if _required(field) and not _optional(wanted):
            raise ValueError("This option is required.")
        if empty and field.name in values and _required(field):
            found[field.name] = None
        return
    found[field.name] = _checked(_convert(wanted, raw), field.metadata, required=_required(field))


def _optional(wanted: Any) -> bool:
    return get_origin(wanted) in (Union, types.UnionType) and type(None) in get_args(wanted)


def _without_none(wanted: Any) -> Any:
    if not _optional(wanted):
        return wanted
    return next(part for part in get_args(wanted) if part is not type(None))


def _convert(wanted: Any, raw: Any) -> Any:
    wanted = _without_none(wanted)
    origin = get_origin(wanted) or wanted
    if origin is Literal:
        return _one_of(raw, get_args(wanted))
    if origin in (tuple, list, frozenset, Sequence):
        return _sequence(origin, wanted, raw)
    if origin in (dict, Mapping):
        return _mapping(raw)
    if isinstance(origin, type) and issubclass(origin, Enum):
        return origin(_one_of(raw.value if isinstance(raw, Enum) else raw, [member.value for member in origin]))
    return _scalar(origin, raw)


def _scalar(wanted: Any, raw: Any) -> Any:
    readers: dict[Any, Callable[[Any], Any]] = {
        str: _text, bool: _flag, int: _integer, float: _number, Path: _path, timedelta: _duration,
    }  # fmt: skip
    reader = readers.get(wanted)
    if reader is None:
        raise TypeError(f"options cannot hold values of type {wanted!r}")
    return reader(raw)


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError("This must be a text.")
    if "\0" in raw:
        raise ValueError("This must not contain a NUL character.")
    return raw


def _flag(raw: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if isinstance(raw, bool):
        return raw
    if str(raw).strip().lower() not in words:
        raise ValueError("This must be true or false.")
    return words[str(raw).strip().lower()]


def _integer(raw: Any) -> int:
    whole = isinstance(raw, (int, str)) or (isinstance(raw, float) and raw.is_integer())
    if isinstance(raw, bool) or not whole:
        raise ValueError("This must be a whole number.")
    try:
        return int(raw)
    except ValueError:
        raise ValueError("This must be a whole number.") from None


def _number(raw: Any) -> float:
    try:
        number = float(raw)
    except (TypeError, ValueError):
        raise ValueError("This must be a number.") from None
    if isinstance(raw, bool) or not math.isfinite(number):
        raise ValueError("This must be a number.")
    return number


def _path(raw: Any) -> Path:
    return Path(_text(str(raw)))


def _duration(raw: Any) -> timedelta:
    return raw if isinstance(raw, timedelta) else timedelta(seconds=_number(raw))


def _one_of(raw: Any, allowed: Sequence[Any]) -> Any:
    for value in allowed:
        if raw == value or str(raw) == str(value):
            return value
    raise ValueError(f"This must be one of: {', '.join(str(value) for value in allowed)}.")


def _sequence(origin: Any, wanted: Any, raw: Any) -> Any:
    if isinstance(raw, str):  # a text area: one value a line
        raw = [line.strip() for line in raw.splitlines() if line.strip()]
    if not isinstance(raw, (list, tuple, set, frozenset)):
        raise ValueError("This must be a list.")
    inner = (get_args(wanted) or (str,))[0]
    values = [_convert(inner, value) for value in raw]
    return values if origin is list else frozenset(values) if origin is frozenset else tuple(values)


def _mapping(raw: Any) -> dict[str, str]:
    if not isinstance(raw, Mapping):
        raise ValueError("This must be a mapping of names to texts.")
    return {_text(key): _text(value) for key, value in raw.items()}


def _checked(value: Any, facts: Mapping[str, Any], *, required: bool) -> Any:
    if value == "" and required:
        raise ValueError("This option is required.")
    _check_bounds(value, facts)
    choices = facts.get("choices") or ()
    if choices:
        _one_of(value, choices)
    pattern = facts.get("pattern")
    if pattern and isinstance(value, str) and value and not re.fullmatch(pattern, value):
        raise ValueError(f"This must match {pattern}.")
    return value


def _check_bounds(value: Any, facts: Mapping[str, Any]) -> None:
    sized = isinstance(value, (str, tuple, list, frozenset))
    if not sized and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return
    measure, unit = (len(value), " long") if sized else (value, "")
    low, high = facts.get("minimum"), facts.get("maximum")
    if low is not None and measure < low:
        raise ValueError(f"This must be at least {low:g}{unit}.")
    if high is not None and measure > high:
        raise ValueError(f"This must be at most {high:g}{unit}.")


# --- showing --------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (tuple, frozenset, set, list)):
        return [_plain(inner) for inner in value]
    return value


def _property(cls: type[Any], field: dataclasses.Field[Any]) -> dict[str, Any]:
    facts = field.metadata
    found = _type_schema(_types(cls)[field.name])
    found |= {"title": facts.get("label") or field.name.replace("_", " ").capitalize()}
    if facts.get("help"):
        found["description"] = facts["help"]
    if facts.get("choices"):
        found["enum"] = list(facts["choices"])
    if facts.get("pattern"):
        found["pattern"] = facts["pattern"]
    found |= _bounds_schema(found, facts)
    if facts.get(SECRET_MARK):
        return found | {"writeOnly": True, "format": "password"}
    if not _required(field):
        found["default"] = _plain(_default(field))
    return found


def _default(field: dataclasses.Field[Any]) -> Any:
    made: Any = field.default_factory  # a missing factory is a marker, which mypy cannot tell from a callable
    return field.default if made is MISSING else made()


def _bounds_schema(found: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    ends = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
    low, high = ends.get(str(found.get("type")), ("minimum", "maximum"))
    bounds = {low: facts.get("minimum"), high: facts.get("maximum")}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _type_schema(wanted: Any) -> dict[str, Any]:
    wanted = _without_none(wanted)
    origin = get_origin(wanted) or wanted
    if origin is Literal:
        return {"type": "string", "enum": list(get_args(wanted))}
    if origin in (tuple, list, frozenset, Sequence):
        return {"type": "array", "items": _type_schema((get_args(wanted) or (str,))[0])}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if isinstance(origin, type) and issubclass(origin, Enum):
        return {"type": "string", "enum": [member.value for member in origin]}
    names = {bool: "boolean", int: "integer", float: "number", timedelta: "number"}
    return {"type": names.get(origin, "string")}
