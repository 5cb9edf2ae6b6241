"""Which directories a source may name programs in: the worker runs them with all its rights.

Whoever may add sources, and recover files to a place of their choice, must not get a program of their own started. So
only directories below those of AIHUB_TOOL_DIRS (colons between them; “/usr” when it is not set) count, links resolved.
"""

from __future__ import annotations

import os


def error(directory: str) -> str:
    """Why programs there are not started; "" when they may be."""
    places = allowed()
    true = os.path.realpath(directory)
    if any(true == place or true.startswith(place.rstrip("/") + "/") for place in places):
        return ""
    return f"Programs are started from {', '.join(places)} only; an administrator can name more in AIHUB_TOOL_DIRS."


def allowed() -> list[str]:
    """The directories, links resolved."""
    named = os.environ.get("AIHUB_TOOL_DIRS", "") or "/usr"
    return [os.path.realpath(place) for place in named.split(":") if place.startswith("/")]
