"""What people do with storages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from aihub_backup.core import nodes
from aihub_backup.core.audit import Actor, record
from aihub_backup.core.failures import Refused
from aihub_backup.core.models import Environment, Node
from backups.kinds import STORAGES
from backups.models import Repository, RepositoryState, Site, Storage
from backups.services import configured, opening, placing, saving, trials
from backups.services.naming import named
from backups.services.running import perform


class Facts(TypedDict, total=False):
    """What may be said of a storage beside its name, kind and options."""

    environment: Environment | None
    site: Site | None
    node: Node | None


def create(
    name: str, kind: str, options: Mapping[str, object], *, by: Actor, test: bool = True, **facts: Unpack[Facts]
) -> Storage:
    """Add a place. `options` are the fields of the kind's Options, the secret ones among them.

    Without an environment the only (or the default) one is meant; a local place without a node is on this host.
    With `test` the place is made ready and probed first; nothing is stored when that fails.
    OptionsError, Refused (name taken, place taken, node not here), Unavailable.
    """
    storage = draft(name, kind, options, by=by, **facts)
    if test:
        try_out(storage)
    with transaction.atomic():
        saving.write(storage)
        record("storage.create", storage, by=by, kind=kind, options=storage.options)
    return storage


def draft(
    name: str,
    kind: str,
    options: Mapping[str, object],
    *,
    by: Actor,
    environment: Environment | None = None,
    site: Site | None = None,
    node: Node | None = None,
) -> Storage:
    """What `create` would store; no place is reached, and nothing stored but the first environment.

    OptionsError, Refused (name taken, place taken).
    """
    plain, hidden = configured.values(STORAGES, kind, options)
    place = placing.environment(environment)
    storage = Storage(name=name, kind=kind, options=plain, environment=place, site=site, node=_node(kind, node))
    storage.secrets = hidden
    saving.checked(storage)
    _refuse_taken_place(storage, by)
    return storage


def try_out(storage: Storage) -> None:
    """Make the place ready and probe it, whether it is stored or not. Refused (node not here), Unavailable."""
    _probe(storage, create=True)


def update(storage: Storage, *, by: Actor, **changes: Any) -> Storage:
    """Change name, options (given secrets replace the stored ones, absent ones stay), site, environment, enabled.

    Where a repository is may change (its disk was moved): that the same one is there `trials.if_moved` tells at once.
    """
    if "options" in changes:
        changes["options"], changes["secrets"] = configured.changed(STORAGES, storage, changes["options"])
    configured.lay_over(storage, changes, allowed=("name", "options", "secrets", "site", "environment", "enabled"))
    saving.checked(storage)
    _refuse_taken_place(storage, by)
    untested = trials.forget(storage) if "options" in changes else ()
    with transaction.atomic():
        saving.write(storage, [*changes, *untested])
        record("storage.update", storage, by=by, changed=sorted(changes))
    return storage


def take_back(storage: Storage, *, by: Actor) -> bool:
    """Remove a storage that was made a moment ago for something that failed; False, and it stays, where a repository
    was begun in it: its row has the keys of what may lie there."""
    with transaction.atomic():
        if Repository.objects.select_for_update().filter(storage=storage).exists():
            return False
        record("storage.remove", storage, by=by)
        storage.delete()
    return True


def test(storage: Storage, *, by: Actor) -> Storage:
    """Reach the place, ask for its capabilities, open the repository that belongs there; write down the result
    (`tested_at`, `test_error`)."""
    return trials.carry_out(storage, _look, by=by, found=["capabilities"])


def reach(storage: Storage) -> None:
    """Raise unless a place that was made ready is still there and takes what it is given.

    Without this question a repository would be made on the mount point of a disk that is not mounted.
    """
    if storage.tested_at is not None:
        _probe(storage, create=False)


def place(storage: Storage) -> str:
    """Where it is, in a person's words."""
    words: str = STORAGES.load(storage.kind).describe(opening.options(storage))
    return _("%(place)s on %(node)s") % {"place": words, "node": storage.node} if storage.node else words


def _look(storage: Storage) -> None:
    """Whether what belongs there is there: the place alone may be any empty directory. A history that was changed is
    told and not learnt: behind a mistyped path may lie an older copy."""
    _probe(storage, create=False)
    held = Repository.objects.filter(storage=storage).exclude(state=RepositoryState.CREATING).first()
    if held is not None:
        held.storage = storage
        perform({"job": "unlock", "repository": opening.repository(held)}, patience=trials.PATIENCE)


def _probe(storage: Storage, *, create: bool) -> None:
    trials.must_be_here(storage)
    found = perform({"job": "probe", "store": opening.store(storage), "create": create}, patience=trials.PATIENCE)
    storage.capabilities, storage.tested_at = found["capabilities"], timezone.now()


def _node(kind: str, given: Node | None) -> Node | None:
    """A place of one host belongs to the given node or to this host; one that everybody reaches keeps what is given."""
    return given or (nodes.here() if STORAGES.load(kind).bound_to_node else None)


def _refuse_taken_place(storage: Storage, by: Actor) -> None:
    same = Storage.objects.filter(kind=storage.kind, node=storage.node, options=storage.options).exclude(pk=storage.pk)
    if (other := same.first()) is not None:
        told = _("This very place is taken already: it is %(other)s.") % {"other": named(other, by=by)}
        raise Refused(told, code="place-taken")
