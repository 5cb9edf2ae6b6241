"""The clock that leases are written with: the database's where many hosts share it, the host's on SQLite."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection
from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.expressions import Combinable
from django.db.models.functions import Now
from django.utils import timezone


def one_host() -> bool:
    """SQLite: every process that touches the job table runs on this host."""
    return connection.vendor == "sqlite"


def now() -> datetime | Combinable:
    """The present, for filters and updates."""
    return timezone.now() if one_host() else Now()


def after(seconds: float) -> datetime | Combinable:
    """The present plus (or minus) some seconds, for filters and updates."""
    shift = timedelta(seconds=seconds)
    if one_host():
        return timezone.now() + shift
    return ExpressionWrapper(Now() + shift, output_field=DateTimeField())
