"""What people do with sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Invalid, Refused
from aihub_backup.core.models import Environment, Node
from backups.kinds import STRATEGIES
from backups.models import BackupPart, Policy, Repository, Source
from backups.models.backup import ACTIVE
from backups.services import configured, guards, loops, own_places, placing, repositories, saving, trials
from backups.services.running import perform, workdir

CHANGEABLE = ("name", "options", "secrets", "environment", "node", "tags", "policy", "repository", "enabled")


class Facts(TypedDict, total=False):
    """What may be said of a source beside its name, kind and options."""

    environment: Environment | None
    node: Node | None
    tags: Mapping[str, str] | None
    policy: Policy | None
    repository: Repository | None
    enabled: bool


def create(
    name: str,
    kind: str,
    options: Mapping[str, object],
    *,
    by: Actor,
    test: bool = True,
    own: bool = False,
    **facts: Unpack[Facts],
) -> Source:
    """Add something to protect. `options` are the fields of the strategy's Options, the secret ones among them.

    With `test` the strategy checks first that it can read the source (where this host reaches it); nothing is stored
    when it cannot. `own` is the word of `services.console` for the console's database. OptionsError, Refused (name
    taken, it holds its own repository or the console), the strategy's sentence as Failure.
    """
    source = draft(name, kind, options, own=own, **facts)
    if test and placing.here(source.node):
        try_out(source)
        source.tested_at = timezone.now()
    with transaction.atomic():
        saving.write(source)
        record("source.create", source, by=by, kind=kind, options=source.options)
    return source


def draft(
    name: str,
    kind: str,
    options: Mapping[str, object],
    *,
    environment: Environment | None = None,
    node: Node | None = None,
    tags: Mapping[str, str] | None = None,
    policy: Policy | None = None,
    repository: Repository | None = None,
    enabled: bool = True,
    own: bool = False,
) -> Source:
    """What `create` would store; nothing is read, and nothing stored but the first environment.

    OptionsError, Refused (name taken, its own repository, the console).
    """
    if not own:
        repositories.must_be_clear(repository)
    plain, hidden = configured.values(STRATEGIES, kind, options)
    place = placing.environment(environment)
    source = Source(
        name=name, kind=kind, options=plain, environment=place, node=node, tags=labels(tags), policy=policy,
        repository=repository, enabled=enabled, holds_console=own,
    )  # fmt: skip
    source.secrets = hidden
    saving.checked(source)
    guards.must_not_hold_console(source)
    loops.refuse(source, loops.expected(source))
    return source


def try_out(source: Source) -> None:
    """Let the strategy look at it, whether it is stored or not. Refused (node not here), the strategy's sentence."""
    trials.must_be_here(source)
    _look(source)


def update(source: Source, *, by: Actor, **changes: Any) -> Source:
    """Change name, options (given secrets replace the stored ones, absent ones stay), tags, policy, repository, …

    Invalid, Refused (name taken, its own repository, the console; the console's own source is led nowhere else).
    """
    guards.must_stay(source, changes)
    if "options" in changes:
        changes["options"], changes["secrets"] = configured.changed(STRATEGIES, source, changes["options"])
    return _lay_down(source, by=by, **changes)


def move(source: Source, *, by: Actor, **changes: Any) -> Source:
    """The same without those rules: for `services.console`, which knows where the console's database is, and as whom
    it is read."""
    if "options" in changes:
        changes["options"], changes["secrets"] = configured.followed(STRATEGIES, source, changes["options"])
    return _lay_down(source, by=by, **changes)


def _lay_down(source: Source, *, by: Actor, **changes: Any) -> Source:
    if "tags" in changes:
        changes["tags"] = labels(changes["tags"])
    elsewhere = {"options", "node"} & set(changes) or (changes.get("enabled") and not source.enabled)
    configured.lay_over(source, changes, allowed=CHANGEABLE)
    saving.checked(source)
    untested = trials.forget(source) if "options" in changes else ()
    if elsewhere:
        guards.must_not_hold_console(source)
    if {"options", "repository"} & set(changes):
        loops.refuse(source, loops.expected(source))
    with transaction.atomic():
        saving.write(source, [*changes, *untested])
        record("source.update", source, by=by, changed=sorted(changes))
    return source


def pause(source: Source, *, by: Actor, reason: str = "") -> Source:
    """Leave it out of runs that name no sources."""
    return _switch(source, "source.pause", by, reason, enabled=False)


def resume(source: Source, *, by: Actor) -> Source:
    """Take it in again, also out of the archive.

    Refused of an adopted one that was never tried out from here, and of one that holds the console.
    """
    must_be_tried(source)
    guards.must_not_hold_console(source)
    return _switch(source, "source.resume", by, "", enabled=True, archived_at=None)


def must_be_tried(source: Source) -> None:
    """Refused, with the cure, while what another console knew of it was not tried out from here."""
    if source.untried:
        told = _("“%(source)s” was adopted. %(why)s") % {"source": source, "why": source.test_error}
        raise Refused(told, code="source-not-ready")


def archive(source: Source, *, by: Actor, reason: str = "") -> Source:
    """Protect it no longer; its backups stay. Refused while one of them is running, and of the console itself."""
    guards.must_be_protected(source)
    if BackupPart.objects.filter(source=source, state__in=ACTIVE).exists():
        raise Refused(
            f"A backup of “{source}” is running; cancel it or wait for its end.", code="operation-in-progress"
        )
    return _switch(source, "source.archive", by, reason, enabled=False, archived_at=timezone.now())


def test(source: Source, *, by: Actor) -> Source:
    """Let the strategy look at the source and write down the result (`tested_at`, `test_error`)."""
    return trials.carry_out(source, _look, by=by)


def strategy_spec(source: Source) -> dict[str, Any]:
    """{"kind", "options", "reserved"} with secrets in the clear: only for the runner's stdin."""
    options = {**source.options, **source.secrets}
    return {"kind": source.kind, "options": options, "reserved": own_places.reserved(source)}


def labels(tags: Mapping[str, str] | None) -> dict[str, str]:
    """Tags as they are stored: a mapping of short names to short texts. Invalid when it is something else."""
    given = tags or {}
    fits = isinstance(given, Mapping) and all(_is_label(name) and _is_label(value) for name, value in given.items())
    if not fits:
        raise Invalid(
            "Tags are a mapping of names to texts, each of at most 100 characters.",
            errors={"tags": "This must be a mapping of names to texts, each of at most 100 characters."},
        )
    return {name: str(value) for name, value in given.items()}


def _is_label(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= 100


def _look(source: Source) -> None:
    with workdir(f"test-{source.pk}") as place:
        perform({"job": "test", "source": strategy_spec(source), "workdir": place}, patience=trials.PATIENCE)


def _switch(source: Source, action: str, by: Actor, reason: str, **fields: Any) -> Source:
    for name, value in fields.items():
        setattr(source, name, value)
    with transaction.atomic():
        source.save(update_fields=[*fields, "updated_at"])
        record(action, source, by=by, reason=reason)
    return source
