"""State machines in rows: a state moves only if it is still what the mover believes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django.db import models
from django.db.models.expressions import BaseExpression

from aihub_backup.core.failures import Refused


class IllegalMove(Refused):
    """The machine has no such move."""


class LostRace(Refused):
    """Somebody else moved the row first; read it again before deciding anew."""


class Stateful(models.Model):
    """A row with a guarded `state`. `MOVES` maps a state to the states that may follow it; absent = final.

    `save()` never writes the state of an existing row: `move_to` is the only door.
    """

    MOVES: ClassVar[Mapping[str, frozenset[str]]] = {}

    state = models.CharField(max_length=24, db_index=True)

    class Meta:
        abstract = True

    def move_to(self, new: str, **fields: object) -> None:
        """UPDATE … WHERE pk = … AND state = <what I believe>, with the other fields in the same statement.

        IllegalMove when the machine has no such move, LostRace when the row is no longer in that state.
        """
        old = self.state
        if new not in self.MOVES.get(old, frozenset()):
            raise IllegalMove(f"{self._named()} is {old} and cannot become {new}.")
        rows = type(self)._base_manager.filter(pk=self.pk, state=old)
        if rows.update(state=new, **fields) != 1:
            raise LostRace(f"{self._named()} is no longer {old}; somebody else moved it first.")
        self._take({"state": new, **fields})

    def save(
        self,
        *,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Write everything but the state of a row that already exists."""
        if not self._state.adding and update_fields is None and not force_insert:
            update_fields = [field.name for field in self._meta.concrete_fields if self._writable(field)]
        super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)

    def _writable(self, field: models.Field[Any, Any]) -> bool:
        loaded = field.attname not in self.get_deferred_fields()
        return loaded and not field.primary_key and field.name != "state"

    def _take(self, fields: Mapping[str, object]) -> None:
        """Show the new values on this instance too; what the database computed is read back."""
        computed = [name for name, value in fields.items() if isinstance(value, (BaseExpression, models.F))]
        for name, value in fields.items():
            if name not in computed:
                setattr(self, name, value)
        if computed:
            self.refresh_from_db(fields=computed)

    def _named(self) -> str:
        return f"{self._meta.verbose_name} {self}"
