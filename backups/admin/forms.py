"""Forms of what people configure: fields from a kind's `Options`; secrets go in and never come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext as _

from aihub_backup.core.failures import Failure, Invalid
from aihub_backup.core.options import OptionsError
from aihub_backup.core.plugins import PluginTable

PREFIX = "option-"  # an option may have the name of another field
_PLAIN = {"class": "field"}
_MONO = {"class": "field mono", "rows": 4, "spellcheck": "false"}
_SECRET = {"class": "field", "autocomplete": "new-password"}


class SecretLines(forms.Textarea):
    """A secret of several lines, such as a private key."""

    def format_value(self, value: Any) -> str:
        """Nothing: what was typed is not sent back."""
        return ""


class Pairs(forms.CharField):
    """A mapping of names to texts, one “name=value” a line."""

    widget = forms.Textarea(attrs=_MONO)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compared as mappings: no line at all is an empty one."""
        return bool(dict(initial or {}) != self.to_python(data))

    def prepare_value(self, value: Any) -> Any:
        """The mapping as lines."""
        return "\n".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, Mapping) else value

    def to_python(self, value: Any) -> Any:
        """The lines as a mapping."""
        lines = [line.strip() for line in str(value or "").splitlines() if line.strip()]
        for line in lines:
            if "=" not in line:
                raise forms.ValidationError(_("“%(line)s” is not written as name=value.") % {"line": line})
        return {name.strip(): text.strip() for name, _sign, text in (line.partition("=") for line in lines)}


class OptionsForm(forms.Form):
    """The options of one kind. With `row` those that are stored; an empty secret then keeps the stored one."""

    def __init__(self, table: PluginTable[Any], kind: str, data: Any = None, row: Any = None) -> None:
        super().__init__(data)
        self.kind = kind
        told = table.schema(kind)
        many = {one.name: one.metadata for one in dataclasses.fields(table.options_class(kind))}
        for name, facts in told["properties"].items():
            field = _field({**many[name], **facts}, required=name in told["required"])
            self.fields[PREFIX + name] = _stored(field, name, row) if row is not None else field

    @property
    def options(self) -> list[forms.BoundField]:
        """Those of the kind."""
        return [field for field in self if field.name.startswith(PREFIX)]

    @property
    def around(self) -> list[forms.BoundField]:
        """All others."""
        return [field for field in self if not field.name.startswith(PREFIX)]

    def given(self) -> dict[str, object]:
        """The options as the services take them."""
        return {
            name.removeprefix(PREFIX): value for name, value in self.cleaned_data.items() if name.startswith(PREFIX)
        }


def refuse(form: forms.Form, failure: Failure) -> None:
    """Tell a service's refusal beside the field it is about, or above them all."""
    errors = failure.errors if isinstance(failure, Invalid) else {}
    if failure.code == "name-taken":
        errors = {"name": failure.message}
    prefix = PREFIX if isinstance(failure, OptionsError) else ""
    for name, sentence in (errors or {"": failure.message}).items():
        known = prefix + name in form.fields
        form.add_error(prefix + name if known else None, sentence if known or not name else f"{name}: {sentence}")


def _stored(field: forms.Field, name: str, row: Any) -> forms.Field:
    """The field with what is stored; of a secret only that there is one."""
    if _is_secret(field):
        field.required = False
        field.widget.attrs["placeholder"] = _("stored; empty leaves it as it is") if row.secrets.get(name) else ""
        return field
    field.initial = _shown(row.options.get(name, field.initial))
    return field


def _is_secret(field: forms.Field) -> bool:
    return isinstance(field.widget, (forms.PasswordInput, SecretLines))


def _field(facts: Mapping[str, Any], *, required: bool) -> forms.Field:
    """The form's field for an option, by its schema; what a value must be like is judged by the option itself."""
    words: dict[str, Any] = {
        "label": _(facts["title"]), "required": required, "initial": _shown(facts.get("default")),
        "help_text": _(facts["description"]) if facts.get("description") else "",
    }  # fmt: skip
    if facts.get("writeOnly"):
        widget = SecretLines(attrs=_MONO) if facts.get("multiline") else forms.PasswordInput(attrs=_SECRET)
        return forms.CharField(strip=False, widget=widget, **words)
    if facts["type"] == "boolean":
        return forms.BooleanField(**{**words, "required": False})
    if facts["type"] == "object":
        return Pairs(**words)
    if facts.get("enum"):
        choices = [(value, value) for value in facts["enum"]]
        return forms.ChoiceField(choices=choices, widget=forms.Select(attrs=_PLAIN), **words)
    return forms.CharField(widget=_widget(facts), **words)


def _widget(facts: Mapping[str, Any]) -> forms.Widget:
    example = {"placeholder": facts["placeholder"]} if facts.get("placeholder") else {}
    if facts.get("multiline") or facts["type"] == "array":
        return forms.Textarea(attrs={**_MONO, **example})
    if facts["type"] in ("integer", "number"):
        bounds = {"min": facts.get("minimum"), "max": facts.get("maximum"), "step": "any"}
        return forms.NumberInput(attrs={**_PLAIN, **{name: one for name, one in bounds.items() if one is not None}})
    return forms.TextInput(attrs={**_PLAIN, **example, "spellcheck": "false"})


def _shown(value: Any) -> Any:
    return "\n".join(map(str, value)) if isinstance(value, (list, tuple)) else value
