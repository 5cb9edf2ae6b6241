"""The page on which a recovery is asked for: what, where, check. Its address holds the whole wish, to be shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core.access import scope
from aihub_backup.core.audit import Actor
from aihub_backup.core.models import Node
from backups.models import Backup, Source, Trigger
from backups.models.backup import BACKUP_STORED
from recovery.models import Recovery, RecoveryType, TargetKind
from recovery.services import databases, recoveries
from recovery.services.recoveries import Plan, Target

REQUEST = "recovery.request_recovery"
LONGEST_REASON = 1000
OFFERED = 50  # backups in the list to choose from
WILD = frozenset("*?[")
_FIELD = {"class": "field"}

TO = (
    (TargetKind.NEW_PLACE, gettext_lazy("a new place: files in a directory")),
    (TargetKind.NEW_DATABASE, gettext_lazy("a new database on the source's own server")),
)
NEEDED = {
    TargetKind.NEW_PLACE: ("path", gettext_lazy("A new place needs an absolute path.")),
    TargetKind.NEW_DATABASE: ("database", gettext_lazy("A new database needs a name.")),
}
DATABASE = ("to", "database", "make_roles")
WHAT = ("source", "at", "backup", "part", "include", "exclude")
WHERE = (
    ("", ("to",)), (TargetKind.NEW_PLACE, ("path", "node")), (TargetKind.NEW_DATABASE, ("database", "make_roles")),
    ("", ("reason",)),
)  # fmt: skip


class Needed(forms.CharField):
    """Has to be filled in where its target is chosen, and is marked so; of another target it stays empty."""

    needed = True


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
        empty_label=gettext_lazy("choose one"),
        help_text=gettext_lazy("Its newest restorable point, or the newest one up to a moment."),
    )  # fmt: skip
    at = forms.DateTimeField(
        required=False, label=gettext_lazy("As it was at this moment (UTC)"),
        widget=forms.DateTimeInput(attrs={**_FIELD, "type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S"),
    )  # fmt: skip
    backup = forms.ModelChoiceField(
        Backup.objects.none(), required=False, label=gettext_lazy("… or this backup"),
        widget=forms.Select(attrs=_FIELD), empty_label=gettext_lazy("none"),
        help_text=gettext_lazy("One of the newest; leave the source empty then."),
    )  # fmt: skip
    part = Lines(required=False, label=gettext_lazy("Only these parts of the backup"))
    include = Lines(
        required=False, label=gettext_lazy("Only these paths or patterns"),
        help_text=gettext_lazy("One a line. Empty: everything."),
    )  # fmt: skip
    exclude = Lines(required=False, label=gettext_lazy("Without these patterns"))
    to = forms.ChoiceField(
        choices=TO, initial=TargetKind.NEW_PLACE, label=gettext_lazy("Target"), widget=forms.RadioSelect()
    )
    path = Needed(
        required=False, label=gettext_lazy("A new place: a directory that does not exist yet"),
        widget=forms.TextInput(attrs={**_FIELD, "spellcheck": "false"}),
    )  # fmt: skip
    node = forms.ModelChoiceField(
        Node.objects.none(), required=False, label=gettext_lazy("On the disk of"), widget=forms.Select(attrs=_FIELD),
        empty_label=gettext_lazy("the node that reaches the data"),
    )  # fmt: skip
    database = Needed(
        required=False, max_length=100, label=gettext_lazy("Name of the new database"),
        widget=forms.TextInput(attrs={**_FIELD, "spellcheck": "false"}),
        help_text=gettext_lazy("One that the source's server does not have yet; the database comes back whole."),
    )  # fmt: skip
    make_roles = forms.BooleanField(
        required=False, label=gettext_lazy("Make roles that the server lacks"),
        help_text=gettext_lazy("Without the right to sign in."),
    )  # fmt: skip
    reason = forms.CharField(
        label=gettext_lazy("Reason, for the audit log"), max_length=LONGEST_REASON, widget=forms.TextInput(attrs=_FIELD)
    )

    def __init__(self, request: HttpRequest, data: QueryDict | None, initial: Mapping[str, Any]) -> None:
        super().__init__(data, initial=dict(initial))
        sources = scope(Source.objects.all(), request.user, REQUEST)
        rows: dict[str, QuerySet[Any]] = {"source": sources, "node": Node.objects.filter(enabled=True)}
        rows["backup"] = scope(Backup.objects.filter(state__in=BACKUP_STORED), request.user, REQUEST)
        for name, queryset in rows.items():
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = queryset
        self._offer_sources(sources.filter(holds_console=False))
        self._offer_newest(rows["backup"].exclude(parts__source__holds_console=True))
        if not _any_database(sources):
            for name in DATABASE:
                del self.fields[name]

    def _offer_sources(self, rows: QuerySet[Source]) -> None:
        """To choose from: all but the console's own; whoever names that one is told how it comes back."""
        widget = self.fields["source"].widget
        assert isinstance(widget, forms.Select)
        widget.choices = [("", _("choose one")), *((str(row.pk), str(row)) for row in rows)]

    def _offer_newest(self, rows: QuerySet[Backup]) -> None:
        """To choose from: the newest ones and the one that was named. Every one within reach is accepted; those of the
        console itself are refused with a sentence."""
        named = str((self.data if self.is_bound else self.initial).get("backup") or "")
        newest = list(rows.prefetch_related("parts__source").order_by("-created_at", "-id")[:OFFERED])
        if named and named not in {str(one.pk) for one in newest}:
            newest += _named(rows, named)
        field = self.fields["backup"]
        assert isinstance(field.widget, forms.Select)
        field.widget.choices = [("", _("none")), *((str(one.pk), _told(one)) for one in newest)]

    @property
    def what(self) -> list[forms.BoundField]:
        """Fields of the first step."""
        return [self[name] for name in WHAT]

    @property
    def where(self) -> list[tuple[str, list[forms.BoundField]]]:
        """Fields of the second step, in groups: (the target they belong to, or "" for every one; the fields)."""
        return [(kind, [self[name] for name in names if name in self.fields]) for kind, names in WHERE]

    def clean(self) -> dict[str, Any]:
        """Exactly one thing is wanted, and it is said where to."""
        given: dict[str, Any] = super().clean() or {}
        given["to"] = given.get("to") or TargetKind.NEW_PLACE  # where no source has a server, nobody is asked
        self._demand_target(given)
        if bool(given.get("source")) == bool(given.get("backup")) and not self.errors:
            raise forms.ValidationError(_("Choose either a source or a backup."))
        return given

    def _demand_target(self, given: Mapping[str, Any]) -> None:
        name, told = NEEDED[given["to"]]
        if not given.get(name) and name not in self.errors:
            self.add_error(name, told)


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
        "kind": _kind(given), "target": _target(given), "reason": given["reason"], "trigger": Trigger.CONSOLE,
        "backup": given["backup"], "source": given["source"], "at": given["at"],
        "parts": given["part"], "include": given["include"], "exclude": given["exclude"],
    }  # fmt: skip


def _target(given: Mapping[str, Any]) -> Target:
    """Of the two ways only what belongs to the chosen one."""
    if given["to"] == TargetKind.NEW_DATABASE:
        return Target(TargetKind.NEW_DATABASE, database=given["database"], make_roles=given["make_roles"])
    return Target(path=given["path"], node=given["node"])


def _kind(given: Mapping[str, Any]) -> str:
    """From what was said: patterns are selective, paths or parts partial, a moment a point in time, else full."""
    if given["exclude"] or any(WILD & set(line) for line in given["include"]):
        return RecoveryType.SELECTIVE
    if given["include"] or given["part"]:
        return RecoveryType.PARTIAL
    return RecoveryType.POINT_IN_TIME if given["at"] else RecoveryType.FULL


def _any_database(sources: QuerySet[Source]) -> bool:
    """Is there a source that can come back as a new database?"""
    return any(map(databases.possible, sources.order_by().values_list("kind", flat=True).distinct()))


def _named(rows: QuerySet[Backup], key: str) -> list[Backup]:
    """The one with that id; none where it is no id, or out of reach: the field says so."""
    try:
        return list(rows.prefetch_related("parts__source").filter(pk=UUID(key)))
    except ValueError:
        return []


def _told(backup: Backup) -> str:
    """“etc, shop: nightly 2026-11-27 02:00”."""
    held = ", ".join(sorted(part.source.name for part in backup.parts.all()))
    at = f"{timezone.localtime(backup.created_at):%Y-%m-%d %H:%M %Z}"
    return f"{held}: {backup.label or backup.type_word} {at}"


def _joined(given: QueryDict) -> QueryDict:
    """Several values of one name become lines."""
    joined = given.copy()
    for name in ("include", "exclude", "part"):
        if name in given:
            joined[name] = "\n".join(given.getlist(name))
    joined.setdefault("to", TargetKind.NEW_PLACE)
    return joined


def _proposed() -> str:
    """A place that certainly is new: named after the moment."""
    root = next(iter(settings.AIHUB_RECOVERY_ROOTS), "/srv/recovered")
    return f"{root}/{timezone.localtime():%Y-%m-%d-%H%M%S}"
