"""The Celery app: `celery -A aihub_backup worker|beat`."""

from __future__ import annotations

import logging.config
import os
import warnings
from typing import Any

from celery import Celery, signals
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aihub_backup.settings")

TRANSPORT_ALIASES["filesystem"] = "aihub_backup.core.filebroker:Transport"  # the original loses messages

# Celery warns at each start as root; backing up everything and giving files their owners back needs root.
warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")

app = Celery("aihub_backup")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def use_our_logging(**_facts: Any) -> None:
    """Workers and beat log like the rest: JSON, scrubbed."""
    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)


@signals.worker_process_init.connect
def end_with_the_main_process(**_facts: Any) -> None:
    """A pool child whose main process was killed would go on for ever, unseen."""
    from aihub_backup.core.processes import die_with_parent

    die_with_parent()


@signals.worker_shutting_down.connect
def hand_jobs_back(**_facts: Any) -> None:
    """SIGTERM: jobs in hand come to an end or return to the queue."""
    from aihub_backup.core.jobs import drain

    drain.begin()


@signals.worker_ready.connect
def show_this_node(**_facts: Any) -> None:
    """This host has a worker now; jobs that an earlier one left behind are looked for at once."""
    from aihub_backup.core import nodes, tasks

    nodes.announce()
    _close_databases()
    for task in (tasks.watchdog, tasks.ring):
        task.apply_async(expires=30, retry=False)


def _close_databases() -> None:
    """Nothing of a database may stay open in the main process: pool processes are forked from it later on, and a
    psycopg pool is no use without the threads that a fork does not copy."""
    from django.db import connections

    for connection in connections.all():
        connection.close()
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()
