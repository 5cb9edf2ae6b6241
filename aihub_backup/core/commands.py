"""Commands inside sentences: what somebody is to type, so that it can be copied whatever the names in it hold."""

from __future__ import annotations

import shlex


def typed(*words: object) -> str:
    """`aihub …` with every word quoted that a shell would take apart."""
    return shlex.join(["aihub", *map(str, words)])
