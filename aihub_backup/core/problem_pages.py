"""What the `type` of a problem leads to: a page that says in words what it means (RFC 9457, section 3.1.1)."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from aihub_backup.core.problems import KINDS


@login_not_required
@require_safe
def problem(request: HttpRequest, code: str) -> HttpResponse:
    """Open to everybody: who is refused for want of a token may follow the link too, and it tells nothing of us."""
    kind = KINDS.get(code)
    if kind is None:
        raise Http404
    return render(request, "problem.html", {"code": code, "kind": kind})
