"""The first page of the console: is everything protected, and what wants a person?"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page shows, beside what every page has."""
    return context
