"""Bodies and query parameters: nothing unknown is ignored, nothing is guessed, synonyms are spelled out.

A field that is silently dropped is how a backup goes to the wrong place and a filter deletes too much.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.http import QueryDict
from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from aihub_backup.core.api import names
from aihub_backup.core.failures import NotFound
from aihub_backup.core.paging import MOST, PAGE_SIZE


class Body(serializers.Serializer[Any]):
    """The members a request may have. `SYNONYMS` maps other accepted names to ours."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {}
    default_error_messages: ClassVar[dict[str, Any]] = {"invalid": "This must be a JSON object, not a {datatype}."}

    def to_internal_value(self, data: Any) -> Any:
        """The validated members; every unknown, doubled or wrong one is reported in one go."""
        if not isinstance(data, Mapping):
            return super().to_internal_value(data)
        renamed, errors = self._renamed(data)
        try:
            found = super().to_internal_value(renamed)
        except ValidationError as error:
            raise ValidationError({**_as_mapping(error.detail), **errors}) from None
        if errors:
            raise ValidationError(errors)
        return found

    def _renamed(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        known = {name for name, field in self.fields.items() if not field.read_only}
        renamed: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for name, value in data.items():
            ours = self.SYNONYMS.get(name, name)
            if ours not in known:
                errors[name] = [serializers.ErrorDetail(_unknown(name, known, self.WORD), self.UNKNOWN)]
            elif ours in renamed or (ours != name and ours in data):
                errors[name] = [
                    serializers.ErrorDetail(f"This says the same as “{ours}”; give one of them.", "invalid")
                ]
            else:
                renamed[ours] = value
        return renamed, errors

    WORD: ClassVar[str] = "member"
    UNKNOWN: ClassVar[str] = "unknown-member"


class Nothing(Body):
    """A request without a body."""


class Query(Body):
    """The parameters an address knows."""

    WORD: ClassVar[str] = "parameter"
    UNKNOWN: ClassVar[str] = "unknown-parameter"

    @staticmethod
    def flat(given: QueryDict) -> dict[str, str]:
        """One text for each parameter; one given twice is a list between commas."""
        return {name: ",".join(given.getlist(name)) for name in given}


class Paged(Query):
    """Page numbers."""

    page = serializers.IntegerField(min_value=1, max_value=1_000_000, default=1)
    page_size = serializers.IntegerField(min_value=1, max_value=MOST, default=PAGE_SIZE)


class Scrolled(Query):
    """A cursor."""

    cursor = serializers.CharField(default="", help_text="From the links of another page.")
    page_size = serializers.IntegerField(min_value=1, max_value=MOST, default=PAGE_SIZE)
    count = serializers.BooleanField(default=False, help_text="Count all rows; slow on long lists.")


# --- fields ---------------------------------------------------------------------------------------------------------


class Text(serializers.CharField):
    """A text; a number is not one. Its length is that of what was sent, with the spaces around it."""

    def to_internal_value(self, data: Any) -> str:
        """The text, stripped."""
        if not isinstance(data, str):
            self.fail("invalid")
        if self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().to_internal_value(data)


class Choice(serializers.ChoiceField):
    """One word of several; what else there is is told."""

    default_error_messages: ClassVar[dict[str, Any]] = {"invalid_choice": "“{input}” is not one of: {known}."}

    def to_internal_value(self, data: Any) -> Any:
        """The word."""
        if not isinstance(data, str) or data not in self.choices:
            self.fail("invalid_choice", input=str(data)[:100], known=", ".join(map(str, self.choices)))
        return data


class Flag(serializers.BooleanField):
    """true or false, not "yes"."""

    def to_internal_value(self, data: Any) -> bool:
        """The flag."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Whole(serializers.IntegerField):
    """A whole number, not a text with one in it."""

    def to_internal_value(self, data: Any) -> int:
        """The number."""
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


# Times that every zone can tell; a typo in a hold must not last for ever.
EARLIEST, LATEST = datetime(1969, 12, 30, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@extend_schema_field(OpenApiTypes.DATETIME)
class Moment(serializers.Field[datetime, Any, str, Any]):
    """ISO 8601 with an offset: a naive time means something else in every office."""

    default_error_messages: ClassVar[dict[str, Any]] = {
        "invalid": "Give a time in ISO 8601 with its offset, like 2026-11-22T07:41:30+08:00 or 2026-11-21T23:41:30Z.",
        "range": "Give a time between the years 1970 and 2200.",
    }

    def to_internal_value(self, data: Any) -> datetime:
        """An aware time."""
        found = self._parsed(data)
        if found is None or found.tzinfo is None:
            self.fail("invalid")
        if not self._tellable(found):
            self.fail("range")
        return found

    def to_representation(self, value: datetime) -> str:
        """ISO 8601."""
        return value.isoformat().replace("+00:00", "Z")

    @staticmethod
    def _parsed(data: Any) -> datetime | None:
        try:
            # "+" in an unquoted query arrives as a space
            return (
                parse_datetime(data.strip().replace(" 0", "+0").replace(" 1", "+1")) if isinstance(data, str) else None
            )
        except ValueError:
            return None

    @staticmethod
    def _tellable(found: datetime) -> bool:
        return EARLIEST < found.replace(tzinfo=UTC) < LATEST  # the offset itself must not overflow


@extend_schema_field(OpenApiTypes.STR)
class Words(serializers.Field[list[str], Any, str, Any]):
    """Several words between commas, each one of the known."""

    def __init__(self, choices: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.choices = tuple(choices)
        if choices and not self.help_text:
            self.help_text = f"One or more of: {', '.join(choices)}."

    def to_internal_value(self, data: Any) -> list[str]:
        """The words."""
        words = [word.strip() for word in str(data).split(",") if word.strip()]
        for word in words:
            if self.choices and word not in self.choices:
                raise ValidationError(f"“{word}” is not one of: {', '.join(self.choices)}.", "invalid-choice")
        if not words:
            raise ValidationError("Give at least one word, or leave the parameter out.")
        return words

    def to_representation(self, value: list[str]) -> str:
        """Between commas."""
        return ",".join(value)


@extend_schema_field(OpenApiTypes.STR)
class Named(serializers.Field[Any, Any, str, Any]):
    """An object by its id or its unique name, as far as the caller may see it, or has the permission `needs` for it."""

    def __init__(self, noun: names.Noun, needs: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.noun, self.needs = noun, needs
        self.help_text = self.help_text or f"The id{' or name' if noun.named else ''} of a {noun.word}."

    def to_internal_value(self, data: Any) -> Any:
        """The object."""
        what = "id or name" if self.noun.named else "id"
        if not isinstance(data, str) or not data:
            raise ValidationError(f"Give the {what} of a {self.noun.word} as a text.")
        try:
            return names.find(self.noun, data, self.context["user"], needs=self.needs)
        except NotFound as error:
            raise ValidationError(error.message, "not-found") from None

    def to_representation(self, value: Any) -> str:
        """The id."""
        return str(value.pk)


def _unknown(name: str, known: set[str], word: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean “{near[0]}”?" if near else f" Known: {', '.join(sorted(known)) or 'none'}."
    return f"There is no {word} “{name[:100]}” here.{hint}"


def _as_mapping(detail: Any) -> dict[str, Any]:
    return dict(detail) if isinstance(detail, Mapping) else {"non_field_errors": detail}
