"""What the pages of signing in may ask about second factors."""

from __future__ import annotations

from typing import Any

from django.template import Context, Library

from aihub_backup.core import signin

register = Library()


@register.simple_tag(takes_context=True)
def second_factor_due(context: Context) -> bool:
    """Is it the lack of a second factor that led the person here?"""
    request: Any = context["request"]
    return signin.due(request.user)
