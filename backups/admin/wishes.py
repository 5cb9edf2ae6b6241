"""What somebody wants to add: forms of storages, sources and repositories, with choices within the person's reach."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core.access import permits, scope
from aihub_backup.core.models import Environment, Node
from backups.admin.forms import OptionsForm, Pairs
from backups.kinds import STORAGES, STRATEGIES
from backups.models import Policy, Repository, RepositoryState, Site, Storage
from backups.models.repository import Codec
from backups.services import adopting, placing

_FIELD = {"class": "field"}


def _name() -> forms.CharField:
    return forms.CharField(
        label=gettext_lazy("Name"), max_length=100, widget=forms.TextInput(attrs=_FIELD),
        help_text=gettext_lazy("As people and programs will call it; it can be changed later."),
    )  # fmt: skip


def _choice(label: Any, empty: Any, help_text: Any = "") -> forms.ModelChoiceField[Any]:
    """One row or none; which ones there are is set for each request."""
    return forms.ModelChoiceField(
        Environment.objects.none(), required=False, label=label, empty_label=empty, help_text=help_text,
        widget=forms.Select(attrs=_FIELD),
    )  # fmt: skip


def _try() -> forms.BooleanField:
    return forms.BooleanField(
        required=False, initial=True, label=gettext_lazy("Try it out first"),
        help_text=gettext_lazy("Nothing is stored when that fails."),
    )  # fmt: skip


class PlacedForm(OptionsForm):
    """Something of a kind in an environment."""

    permission = ""

    name = _name()
    environment = _choice(gettext_lazy("Environment"), gettext_lazy("choose one"))

    def narrow(self, request: HttpRequest) -> None:
        """Offer what is within reach: environments by the permission to add, everything else by what may be seen."""
        places = scope(Environment.objects.all(), request.user, self.permission)
        offer(self, "environment", places)
        field = self.fields["environment"]
        assert isinstance(field, forms.ModelChoiceField)
        field.required = Environment.objects.exists()
        if not field.required:
            field.empty_label = _("the first one: “%(name)s”") % {"name": placing.DEFAULT_ENVIRONMENT}
        elif places.count() == 1:
            # A page that was opened before the first one was made names none, and means this one.
            field.initial, field.required = places.get(), False

    def clean_environment(self) -> Environment | None:
        """The chosen one, or the only one within reach."""
        chosen: Environment | None = self.cleaned_data["environment"]
        return chosen or self.fields["environment"].initial

    def words(self) -> dict[str, Any]:
        """What the service's `draft` takes beside name, kind and options."""
        raise NotImplementedError


class StorageForm(PlacedForm):
    """A place."""

    permission = "backups.add_storage"

    site = _choice(gettext_lazy("Site"), gettext_lazy("none"))
    node = _choice(
        gettext_lazy("Node"), gettext_lazy("as the kind needs it"),
        gettext_lazy("The only host that reaches it. Empty: this host for a directory, every worker for the others."),
    )  # fmt: skip
    test = _try()

    def __init__(self, request: HttpRequest, kind: str, data: Any = None) -> None:
        super().__init__(STORAGES, kind, data)
        self.narrow(request)
        offer(self, "site", scope(Site.objects.all(), request.user, "backups.view_site"))
        offer(self, "node", scope(Node.objects.filter(enabled=True), request.user, "core.view_node"))

    def words(self) -> dict[str, Any]:
        """Where it belongs."""
        return {name: self.cleaned_data[name] for name in ("environment", "site", "node")}


class SourceForm(PlacedForm):
    """Something to protect."""

    permission = "backups.add_source"

    tags = Pairs(
        required=False, label=gettext_lazy("Tags"), help_text=gettext_lazy("One a line, such as team=search."),
    )  # fmt: skip
    policy = _choice(
        gettext_lazy("Policy"), gettext_lazy("none"), gettext_lazy("What protection means: targets and retention.")
    )
    repository = _choice(
        gettext_lazy("Repository"), gettext_lazy("the only one there is"), gettext_lazy("Where its backups go.")
    )
    node = _choice(
        gettext_lazy("Node"), gettext_lazy("every worker reaches it"), gettext_lazy("The only host that reaches it.")
    )
    enabled = forms.BooleanField(
        required=False, initial=True, label=gettext_lazy("Enabled"),
        help_text=gettext_lazy("It takes part in runs that name no sources."),
    )  # fmt: skip
    test = _try()

    def __init__(self, request: HttpRequest, kind: str, data: Any = None) -> None:
        super().__init__(STRATEGIES, kind, data)
        self.user = request.user
        self.narrow(request)
        offer(self, "policy", scope(Policy.objects.all(), request.user, "backups.view_policy"))
        offer(self, "repository", scope(Repository.objects.all(), request.user, "backups.view_repository"))
        offer(self, "node", scope(Node.objects.filter(enabled=True), request.user, "core.view_node"))

    def clean(self) -> dict[str, Any]:
        """Whoever may add sources with certain tags only, adds them with these."""
        given: dict[str, Any] = super().clean() or {}
        place = given.get("environment")
        if place and "tags" in given and not permits(self.user, self.permission, place.pk, given["tags"]):
            self.add_error("tags", _("Your permission does not reach sources with these tags here."))
        return given

    def words(self) -> dict[str, Any]:
        """Where it belongs, and what is promised."""
        names = ("environment", "node", "tags", "policy", "repository", "enabled")
        return {name: self.cleaned_data[name] for name in names}


class RepositoryForm(forms.Form):
    """A keyring and a deduplication domain in a storage of its own."""

    name = _name()
    storage = _choice(
        gettext_lazy("Storage"), gettext_lazy("choose one"), gettext_lazy("A place that holds no repository yet.")
    )
    codec = forms.ChoiceField(
        choices=Codec.choices, initial=Codec.ZSTD, label=gettext_lazy("Codec"), widget=forms.Select(attrs=_FIELD)
    )
    level = forms.IntegerField(
        initial=1, label=gettext_lazy("Compression level"), widget=forms.NumberInput(attrs=_FIELD),
        help_text=gettext_lazy("Zstandard: -7 to 19; gzip: 1 to 9; without a codec it is ignored."),
    )  # fmt: skip
    passphrase = forms.CharField(
        required=False, strip=False, max_length=1000, label=gettext_lazy("Passphrase"),
        widget=forms.PasswordInput(attrs={**_FIELD, "autocomplete": "new-password"}),
        help_text=gettext_lazy("A further way to open it, beside the recovery code. Empty: none."),
    )  # fmt: skip

    def __init__(self, request: HttpRequest, data: Any = None) -> None:
        super().__init__(data)
        free = Q(repository=None) | Q(repository__state=RepositoryState.CREATING)
        offer(self, "storage", scope(Storage.objects.filter(free), request.user, "backups.add_repository"))
        self.fields["storage"].required = True

    @property
    def around(self) -> list[forms.BoundField]:
        """All of them."""
        return list(self)


class AdoptForm(forms.Form):
    """A repository that is there already: where it is, and one secret that opens it."""

    storage = _choice(
        gettext_lazy("Storage"), gettext_lazy("choose one"),
        gettext_lazy("The place it lies in. One of ours is brought up to date, and needs no secret."),
    )  # fmt: skip
    name = forms.CharField(
        required=False, label=gettext_lazy("Name"), max_length=100, widget=forms.TextInput(attrs=_FIELD),
        help_text=gettext_lazy("Empty: the one it had."),
    )  # fmt: skip
    recovery_code = forms.CharField(
        required=False, label=gettext_lazy("Recovery code"), max_length=500,
        widget=forms.PasswordInput(attrs={**_FIELD, "autocomplete": "off"}),
        help_text=gettext_lazy("The printed one of its recovery kit."),
    )  # fmt: skip
    passphrase = forms.CharField(
        required=False, strip=False, max_length=1000, label=gettext_lazy("Passphrase"),
        widget=forms.PasswordInput(attrs={**_FIELD, "autocomplete": "off"}),
        help_text=gettext_lazy("Instead of the recovery code, where the repository has one."),
    )  # fmt: skip
    take_over = forms.BooleanField(
        required=False, label=gettext_lazy("Take it over"),
        help_text=gettext_lazy("Another console that may still be at work can only read it from then on."),
    )  # fmt: skip

    def __init__(self, request: HttpRequest, data: Any = None) -> None:
        super().__init__(data)
        offer(self, "storage", scope(Storage.objects.all(), request.user, "backups.add_repository"))
        self.fields["storage"].required = True

    @property
    def around(self) -> list[forms.BoundField]:
        """All of them."""
        return list(self)

    def words(self) -> dict[str, Any]:
        """What the service's `adopt` takes."""
        given = self.cleaned_data
        secret = adopting.key(recovery_code=given["recovery_code"], passphrase=given["passphrase"])
        return {"secret": secret, **{name: given[name] for name in ("storage", "name", "take_over")}}


def offer(form: forms.Form, name: str, rows: QuerySet[Any]) -> None:
    """The choices of a field, for this person."""
    field = form.fields[name]
    assert isinstance(field, forms.ModelChoiceField)
    field.queryset = rows
