"""The page on which a recovery is asked for: what, where, check. Its address holds the whole wish, to be shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core.access import scope
from aihub_backup.core.audit import Actor
from aihub_backup.core.models import Node
from backups.models import Backup, Source, Trigger
from backups.models.backup import BACKUP_STORED
from recovery.models import Recovery, RecoveryType
from recovery.services import recoveries
from recovery.services.recoveries import Plan, Target

REQUEST = "recovery.request_recovery"
LONGEST_REASON = 1000
WILD = frozenset("*?[")
_FIELD = {"class": "field"}


class Lines(forms.CharField):
    """One path or pattern a line; also several values of the same name, as the browser of a backup sends them."""

    widget = forms.Textarea(attrs={"class": "field mono", "rows": 3})

    def to_python(self, value: Any) -> Any:
        """The lines that hold something."""
        return [line for line in str(value or "").splitlines() if line.strip()]


class Wish(forms.Form):
    """What somebody wants back, and where. Choices are what the person may recover."""

    source = forms.ModelChoiceField(
        Source.objects.none(), required=False, label=gettext_lazy("Source"), widget=forms.Select(attrs=_FIELD),
        help_text=gettext_lazy("Its newest restorable point, or the newest one up to a moment."),
    )  # fmt: skip
    at = forms.DateTimeField(
        required=False, label=gettext_lazy("As it was at this moment (UTC)"),
        widget=forms.DateTimeInput(attrs={**_FIELD, "type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S"),
    )  # fmt: skip
    backup = forms.ModelChoiceField(
        Backup.objects.none(), required=False, label=gettext_lazy("… or this backup"),
        widget=forms.TextInput(attrs=_FIELD), help_text=gettext_lazy("Its id; leave the source empty then."),
    )  # fmt: skip
    part = Lines(required=False, label=gettext_lazy("Only these parts of the backup"))
    include = Lines(
        required=False, label=gettext_lazy("Only these paths or patterns"),
        help_text=gettext_lazy("One a line. Empty: everything."),
    )  # fmt: skip
    exclude = Lines(required=False, label=gettext_lazy("Without these patterns"))
    path = forms.CharField(
        label=gettext_lazy("A new place: a directory that does not exist yet"), widget=forms.TextInput(attrs=_FIELD)
    )
    node = forms.ModelChoiceField(
        Node.objects.none(), required=False, label=gettext_lazy("On the disk of"), widget=forms.Select(attrs=_FIELD),
        empty_label=gettext_lazy("the node that reaches the data"),
    )  # fmt: skip
    reason = forms.CharField(
        label=gettext_lazy("Reason, for the audit log"), max_length=LONGEST_REASON, widget=forms.TextInput(attrs=_FIELD)
    )

    def __init__(self, request: HttpRequest, data: QueryDict | None, initial: Mapping[str, Any]) -> None:
        super().__init__(data, initial=dict(initial))
        rows = {"source": scope(Source.objects.all(), request.user, REQUEST), "node": Node.objects.filter(enabled=True)}
        rows["backup"] = scope(Backup.objects.filter(state__in=BACKUP_STORED), request.user, REQUEST)
        for name, queryset in rows.items():
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = queryset

    def clean(self) -> dict[str, Any]:
        """Exactly one thing is wanted."""
        given: dict[str, Any] = super().clean() or {}
        if bool(given.get("source")) == bool(given.get("backup")) and not self.errors:
            raise forms.ValidationError(_("Choose either a source or a backup."))
        return given


def opened(request: HttpRequest) -> Wish:
    """The form as the address fills it; judged once somebody asked for the check."""
    given = _joined(request.GET if request.method == "GET" else request.POST)
    if "check" in given or request.method == "POST":
        return Wish(request, given, {})
    return Wish(request, None, {"path": _proposed(), **given.dict()})


def plan(wish: Wish, by: Actor) -> Plan:
    """What would be done. Raises the service's refusals."""
    return recoveries.preview(by=by, **_words(wish.cleaned_data))


def ask(wish: Wish, by: Actor) -> Recovery:
    """Do it."""
    return recoveries.request(by=by, **_words(wish.cleaned_data))


def _words(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": _kind(given), "target": Target(path=given["path"], node=given["node"]), "reason": given["reason"],
        "trigger": Trigger.CONSOLE, "backup": given["backup"], "source": given["source"], "at": given["at"],
        "parts": given["part"], "include": given["include"], "exclude": given["exclude"],
    }  # fmt: skip


def _kind(given: Mapping[str, Any]) -> str:
    """From what was said: patterns are selective, paths or parts partial, a moment a point in time, else full."""
    if given["exclude"] or any(WILD & set(line) for line in given["include"]):
        return RecoveryType.SELECTIVE
    if given["include"] or given["part"]:
        return RecoveryType.PARTIAL
    return RecoveryType.POINT_IN_TIME if given["at"] else RecoveryType.FULL


def _joined(given: QueryDict) -> QueryDict:
    """Several values of one name become lines."""
    joined = given.copy()
    for name in ("include", "exclude", "part"):
        if name in given:
            joined[name] = "\n".join(given.getlist(name))
    return joined


def _proposed() -> str:
    """A place that certainly is new: named after the moment."""
    root = next(iter(settings.AIHUB_RECOVERY_ROOTS), "/srv/recovered")
    return f"{root}/{timezone.localtime():%Y-%m-%d-%H%M%S}"
