"""Mappings of names to texts, such as tags, as people write and read them: one “name=value” a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext as _

MONO = {"class": "field mono", "rows": 4, "spellcheck": "false"}


def lines(mapping: Mapping[str, Any]) -> list[str]:
    """The mapping in words."""
    return [f"{name}={text}" for name, text in mapping.items()]


class Pairs(forms.CharField):
    """A mapping of names to texts, one “name=value” a line."""

    widget = forms.Textarea(attrs=MONO)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compared as mappings: no line at all is an empty one."""
        return bool(dict(initial or {}) != self.to_python(data))

    def prepare_value(self, value: Any) -> Any:
        """The mapping as lines."""
        return "\n".join(lines(value)) if isinstance(value, Mapping) else value

    def to_python(self, value: Any) -> Any:
        """The lines as a mapping."""
        given = [line.strip() for line in str(value or "").splitlines() if line.strip()]
        for line in given:
            if "=" not in line:
                raise forms.ValidationError(_("“%(line)s” is not written as name=value.") % {"line": line})
        return {name.strip(): text.strip() for name, _sign, text in (line.partition("=") for line in given)}
