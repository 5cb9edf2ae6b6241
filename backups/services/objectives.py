"""How old the newest restorable point of a source may be. Apps above this one may know what its environment says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from backups.models import MOST_MINUTES, Policy

RPO = timedelta(minutes=60)  # where nobody names a target

# Answers with the RPO targets of all environments that have one of their own, by id.
Environments = Callable[[], Mapping[UUID, timedelta]]

_ENVIRONMENTS: list[Environments] = []


def register(environments: Environments) -> None:
    """From now on sources whose policy names no target have that of their environment."""
    _ENVIRONMENTS.append(environments)


class Promised(Protocol):
    """A source, or what was read of one."""

    @property
    def pk(self) -> UUID:
        """Its id."""

    @property
    def environment_id(self) -> UUID:
        """Where it belongs."""

    @property
    def policy(self) -> Policy | None:
        """Its promise."""


def rpo(sources: Sequence[Promised]) -> dict[UUID, timedelta]:
    """The target of each source: its policy's, else its environment's, else 60 minutes."""
    said = {key: target for environments in _ENVIRONMENTS for key, target in environments().items()}
    return {source.pk: _promised(source) or said.get(source.environment_id, RPO) for source in sources}


def _promised(source: Promised) -> timedelta | None:
    minutes = source.policy.rpo_target_minutes if source.policy else None
    return span(minutes) if minutes else None


def span(minutes: int) -> timedelta:
    """As long as the target, at most MOST_MINUTES: rows from before that bound must not bring every list down."""
    return timedelta(minutes=min(minutes, MOST_MINUTES))
