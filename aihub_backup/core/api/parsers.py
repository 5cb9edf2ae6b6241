"""Reading bodies: JSON, bounded, and nothing that a database could choke on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

MOST_BYTES = 1 << 20  # no request of ours needs more; a larger one would only cost memory
MOST_DEPTH = 32


class TooLarge(APIException):
    """The body is larger than any request of ours."""

    status_code = 413
    default_detail = f"The body is larger than {MOST_BYTES:,} bytes; no request needs so much."


class JsonParser(BaseParser):
    """RFC 8259 JSON in UTF-8: no NaN, no member twice, no lone surrogates, no NUL."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The value; ParseError says what is wrong and where."""
        raw = stream.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise TooLarge
        try:
            value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_object)
            _check(value)
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8.") from None
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {error}.") from None
        return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _times),) = Counter(name for name, _value in pairs).most_common(1)  # a million names take no minute
        raise ValueError(f"the member {twice!r} is given twice")
    return found


def _check(value: Any, depth: int = 0) -> None:
    """Texts that no database column takes are refused here, once for every field."""
    if depth > MOST_DEPTH:
        raise RecursionError
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_text(name)
            _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("a text holds a NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text holds half a surrogate pair") from None
