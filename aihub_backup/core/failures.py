"""What the product says when something cannot be done: a sentence a person may read, and whether to try again."""

from __future__ import annotations

from collections.abc import Mapping


class Failure(Exception):
    """One clear sentence: what happened, where, and the cure. Never holds a secret.

    `permanent` says that trying again cannot help; `code` is a kebab-case slug, the same one the API gives to clients;
    `facts` are extra members for the API's problem document (JSON-able, no secrets).
    """

    code = "failed"
    permanent = True

    def __init__(
        self,
        message: str,
        *,
        permanent: bool | None = None,
        code: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.permanent = type(self).permanent if permanent is None else permanent
        self.code = type(self).code if code is None else code
        self.facts: dict[str, object] = dict(facts or {})

    def __str__(self) -> str:
        return self.message


class Refused(Failure):
    """The request goes against a rule or the present state; doing it again changes nothing."""

    code = "state-conflict"


class Invalid(Refused):
    """Values cannot be understood or accepted; `errors` holds one sentence for each field ("" = the whole)."""

    code = "validation-error"

    def __init__(self, message: str, *, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.errors: dict[str, str] = dict(errors or {})


class NotFound(Failure):
    """No such thing, or not for this person."""

    code = "not-found"


class Denied(Failure):
    """This person may not do that."""

    code = "permission-denied"


class Unavailable(Failure):
    """Something we need does not answer at the moment."""

    code = "storage-unavailable"
    permanent = False
