"""Which worker hosts there are, and whether they are alive."""

from __future__ import annotations

import logging
import socket

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from aihub_backup.core.models import Node

log = logging.getLogger(__name__)

CALL_EXPIRES = 50  # seconds; a call nobody answered before the next one is worthless


def here() -> Node:
    """This host's row, made when it is not there."""
    node, _ = Node.objects.get_or_create(name=settings.AIHUB_NODE, defaults={"host": socket.gethostname()})
    return node


def announce() -> Node:
    """Write down that this host has a living worker."""
    with transaction.atomic():
        node = here()
        Node.objects.filter(pk=node.pk).update(seen_at=timezone.now(), host=socket.gethostname())
    return node


def hear() -> None:
    """Show the supervisor of this host that the pool of workers hears what it is told."""
    settings.AIHUB_HEARD_PATH.touch()


def call() -> None:
    """Ask every enabled node for a sign of life, on its own queue."""
    for node in Node.objects.filter(enabled=True):
        try:
            current_app.send_task(
                "aihub_backup.core.tasks.announce", queue=node.queue, expires=CALL_EXPIRES, retry=False
            )
        except Exception as error:  # every broker has errors of its own; the node then just looks silent
            log.warning("the broker took no call for node %s: %s", node.name, error)
            return
        if node.name == settings.AIHUB_NODE:
            settings.AIHUB_CALLED_PATH.touch()
