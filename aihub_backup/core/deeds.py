"""The audit's words for people: “backup.request” is the thing “backup” and the deed “request”."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

THINGS = {
    "account": _("account"), "backup": _("backup"), "backup.part": _("backup part"), "console": _("console"),
    "disaster.objectives": _("recovery objectives"), "environment": _("environment"), "group": _("role"),
    "node": _("node"), "policy": _("policy"), "recovery": _("recovery"), "repository": _("repository"),
    "role": _("role"), "schedule": _("schedule"), "second_factor": _("second factor"), "site": _("site"),
    "source": _("source"), "storage": _("storage"), "token": _("API token"), "user": _("person"),
    "verification": _("verification"),
}  # fmt: skip
_MADE, _CHANGED, _DELETED = _("made"), _("changed"), _("deleted")
_FAILED, _CANCELLED, _ASKED = _("failed"), _("cancelled"), _("was asked for")
VERBS = {
    "create": _MADE, "created": _MADE, "update": _CHANGED, "delete": _DELETED, "deleted": _DELETED,
    "delete.failed": _("could not be deleted"), "request": _ASKED, "requested": _ASKED, "run": _("run by hand"),
    "cancel": _("told to end"), "cancel_requested": _("told to end"), "cancelled": _CANCELLED,
    "completed": _("completed"), "passed": _("passed"), "failed": _FAILED, "error": _("could not be done"),
    "missed": _("missed"), "hold": _("held"), "hold.untold": _("hold not written into the repository"),
    "release": _("hold ended"), "archive": _("was archived"), "pause": _("paused"), "resume": _("resumed"),
    "enable": _("was enabled"), "disable": _("was disabled"), "slots.left_out": _("slots left out"),
    "adopt": _("adoption asked for"), "adopted": _("adopted"), "adopt.cancel": _("adoption told to end"),
    "adopt.cancelled": _("adoption cancelled"), "adopt.failed": _("adoption failed"),
    "repair": _("repair asked for"), "repair.preview": _("repair previewed"), "repaired": _("repaired"),
    "repair.cancel": _("repair told to end"), "repair.cancelled": _("repair cancelled"),
    "repair.failed": _("repair failed"),
    "compact": _("space asked back"), "compacted": _("space given back"),
    "compact.cancel": _("giving space back told to end"), "compact.cancelled": _("giving space back cancelled"),
    "compact.failed": _("giving space back failed"),
    "history.accept": _("changed history accepted"), "kit.prove": _("kit was proven"),
    "kit.draw": _("new recovery code drawn"), "key.add": _("secret let in"), "key.change": _("secret changed"),
    "key.remove": _("secret shut out"), "key.rotate": _("new keys drawn"), "key.renew": _("own keyfile renewed"),
    "kit.waive": _("kit was waived"), "tampered": _("changed from outside"), "taken_over": _("taken over"),
    "retired": _("retired"), "ok": _("in order"), "give": _("given"), "take": _("taken away"),
    "test": _("tested"), "remove": _("removed"), "revoked": _("revoked"), "keys.seal": _("keys were sealed"),
    "protect": _("own protection set up"), "protect.failed": _("own protection failed"),
}  # fmt: skip
