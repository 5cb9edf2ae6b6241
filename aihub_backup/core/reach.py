"""How a model says where its rows belong, so that `access.scope` can find those that somebody reaches.

A model carries it as `REACH`. Rows of a model without one are reached by those alone whose permission holds everywhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reach:
    """Lookups from a row to where it belongs; empty ones are not used.

    `through` leads to the rows whose reach counts instead, and all of them must be reached; `environment` and `tags`
    then count for rows that have none of them.
    """

    environment: str = ""
    tags: str = ""  # of rows without this, tags take nothing away
    untagged: bool = False  # tags cannot be told: a grant that names tags reaches none of these rows
    whole: str = ""  # a flag of rows that matter to the whole console: bounds let them be seen and nothing else
    through: str = ""
    alone: tuple[str, Collection[str]] | None = None  # (field, values): what belongs to no other row has one of these
    requester: str = ""  # the id of whoever asked for it, as text
    shared: bool = False  # the whole console's: whoever may see some may see all
    owner: str = ""  # only the owner's own ones, unless `all_need` is held everywhere
    all_need: str = ""


@dataclass(frozen=True)
class Bound:
    """Where a permission holds: in which environments (ids as texts; None: every one), for what carries which tags."""

    environments: frozenset[str] | None = None
    tags: dict[str, str] = field(default_factory=dict)
    own: bool = False  # only what the person asked for

    @property
    def everything(self) -> bool:
        """No bound at all?"""
        return self.environments is None and not self.tags and not self.own

    def holds(self, environment: object, tags: dict[str, str] | None) -> bool:
        """Does it hold for something in this environment with these tags? None: a thing that tags do not narrow."""
        here = self.environments is None or str(environment) in self.environments
        return here and not self.own and (tags is None or self.tags.items() <= tags.items())


def own_form(permission: str) -> str:
    """The permission for one's own requests only: “backups.cancel_backup” → “backups.cancel_own_backup”."""
    verb, _, noun = permission.partition("_")
    return f"{verb}_own_{noun}"
