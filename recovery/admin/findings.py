"""What the validation looked at, in words: strategies know no language but their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import showing

CHECKS = {
    "read back": gettext_lazy("read back and compared"),
    "open": gettext_lazy("opens as a database"),
    "integrity": gettext_lazy("the database's own check"),
    "foreign_key_violations": gettext_lazy("broken foreign keys"),
    "page_size": gettext_lazy("page size"),
    "tables": gettext_lazy("rows of the tables"),
    "dump": gettext_lazy("the dump is whole"),
    "contents": gettext_lazy("contents of the dump"),
    "sequences": gettext_lazy("sequences"),
    "large objects": gettext_lazy("large objects"),
    "database": gettext_lazy("settings of the database"),
}


def in_words(findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With a `label` each; of a strategy that is not ours its own word."""
    return [
        {**one, "label": CHECKS.get(one["check"], one["check"]), "detail": _counted(one) or one["detail"]}
        for one in findings
    ]


def _counted(finding: Mapping[str, Any]) -> str:
    """What was read back and is as recorded, in the reader's language; "" where the sentence says more."""
    counts = finding.get("counts")
    if not counts or not finding["passed"]:
        return ""
    sized = {**counts, "size": showing.size(counts["bytes"])}
    told = [_("%(files)d files, %(size)s, have the SHA-256 that was recorded.") % sized]
    if counts["missing"]:
        told.append(_("%(missing)d items, reported as not restored, are not there.") % counts)
    return " ".join(told)
