"""Where things are, and which host can do what."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext as _

from aihub_backup.core.failures import Refused
from aihub_backup.core.models import Environment, Node
from backups.models import Repository, Source

DEFAULT_ENVIRONMENT = "default"


def environment(given: Environment | None) -> Environment:
    """The given one, else the only one (made where there is none). Refused when the choice is not ours to make."""
    if given is not None:
        return given
    known = list(Environment.objects.all()[:2])
    if len(known) > 1:
        raise Refused(_("There are several environments; say which one is meant."), code="validation-error")
    return known[0] if known else Environment.objects.get_or_create(name=DEFAULT_ENVIRONMENT)[0]


def here(node: Node | None) -> bool:
    """Can this very host reach what is bound to the node?"""
    return node is None or node.name == settings.AIHUB_NODE


def must_be_here(node: Node | None, what: str) -> None:
    """Refused, with the cure, when only another host reaches it."""
    if not here(node):
        told = _("Only the node “%(node)s” reaches %(what)s; do this on that host.")
        raise Refused(told % {"node": node, "what": what}, code="worker-unavailable")


def node_for(source: Source, repository: Repository) -> Node | None:
    """The host that reaches both; None when every worker does. Refused when no host can."""
    first, second = source.node, repository.node
    if first and second and first.pk != second.pk:
        told = _(
            "The source “%(source)s” is on the node “%(first)s”, and the repository “%(repository)s” on the node"
            " “%(second)s”: neither reaches the other. Choose a repository on the source's own node."
        )
        facts = {"source": source, "first": first, "repository": repository, "second": second}
        raise Refused(told % facts, code="source-not-ready")
    return first or second
