"""Idempotency-Key: a repeated POST gets the answer of the first one and does nothing again.

Only accepted deeds are remembered. A refusal leaves nothing behind, so the same request may be made again later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.failures import Refused
from aihub_backup.core.models import AnsweredRequest, ApiToken
from aihub_backup.core.problems import FieldError, InvalidRequest
from aihub_backup.core.secrets import seal, unseal

KEPT = timedelta(hours=48)
ABANDONED = timedelta(minutes=15)  # no deed takes so long (the longest waits 300 s): whoever held the key is gone

_KEY = re.compile(r'"?([\x21\x23-\x7e]{1,255})"?')  # bare, or quoted as the header's draft wants it
_HEADERS = ("Location", "Retry-After")


def answered(request: Request, once: bool, deed: Callable[[], Response]) -> Response:
    """The answer of the deed, or of its first time. `once`: the deed touches only our database, so that it and the
    memory of it are one transaction and a crash cannot part them."""
    key = _key(request)
    if key is None:
        return deed()
    caller, fingerprint = _caller(request), _fingerprint(request)
    found = _begun(caller, request.path, key, fingerprint)
    if found.status is not None:
        return _replayed(found)
    return _first_time(found, once, deed)


def _first_time(row: AnsweredRequest, once: bool, deed: Callable[[], Response]) -> Response:
    together: AbstractContextManager[Any] = transaction.atomic() if once else nullcontext()
    try:
        with together:
            response = deed()
            _remember(row, response)
            return response
    except BaseException:
        AnsweredRequest.objects.filter(pk=row.pk, status=None).delete()
        raise


def _begun(caller: str, path: str, key: str, fingerprint: str) -> AnsweredRequest:
    """A fresh row that is ours to answer, or an answered one; Refused when it is neither."""
    now = timezone.now()
    AnsweredRequest.objects.filter(created_at__lt=now - KEPT).delete()
    AnsweredRequest.objects.filter(created_at__lt=now - ABANDONED, status=None).delete()
    try:
        with transaction.atomic():
            return AnsweredRequest.objects.create(caller=caller, path=path[:255], key=key, fingerprint=fingerprint)
    except IntegrityError:
        pass
    row = AnsweredRequest.objects.filter(caller=caller, path=path[:255], key=key).first()
    if row is not None and row.fingerprint != fingerprint:
        raise Refused(
            "This idempotency key was used for another body in the last 48 hours; take a new key for a new request.",
            code="idempotency-key-reused",
        )
    if row is None or row.status is None:
        raise Refused(
            "The first request with this idempotency key is still being answered; ask again in a moment.",
            code="idempotency-in-progress", facts={"retry_after": 1},
        )  # fmt: skip
    return row


def _remember(row: AnsweredRequest, response: Response) -> None:
    table = AnsweredRequest._meta.db_table
    row.status = response.status_code
    row.headers = {name: response[name] for name in _HEADERS if response.has_header(name)}
    row.body = seal(JSONRenderer().render(response.data), table, row.pk, "body")
    row.save(update_fields=["status", "headers", "body"])


def _replayed(row: AnsweredRequest) -> Response:
    body = unseal(row.body, AnsweredRequest._meta.db_table, row.pk, "body")
    response = Response(json.loads(body) if body else None, status=row.status)
    for name, value in row.headers.items():
        response[name] = value
    response["Idempotency-Replayed"] = "true"
    return response


def _key(request: Request) -> str | None:
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    found = _KEY.fullmatch(given.strip())
    if found is None:
        sentence = "Give 1 to 255 visible ASCII characters, for example a UUID."
        raise InvalidRequest([FieldError("/Idempotency-Key", "invalid", sentence, "header")])
    return found[1]


def _caller(request: Request) -> str:
    token = request.auth
    return f"token:{token.pk}" if isinstance(token, ApiToken) else f"user:{request.user.pk}"


def _fingerprint(request: Request) -> str:
    """Keyed: a body may hold a passphrase, which a plain hash in the database would let anybody guess at."""
    said = json.dumps([request.META.get("QUERY_STRING", ""), request.data], sort_keys=True, default=str)
    return salted_hmac("aihub.idempotency", said, algorithm="sha256").hexdigest()
