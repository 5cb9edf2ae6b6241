"""Gunicorn's configuration (`gunicorn --config python:aihub_backup.cli.web`); the address comes from outside.

Threads, because requests wait for the database and the storages; few processes, because the work is the workers'.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from aihub_backup.core import processes

if metrics_directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):  # before anything is counted there
    shutil.rmtree(metrics_directory, ignore_errors=True)
    os.makedirs(metrics_directory, mode=0o700)

worker_class = "gthread"
workers = int(os.environ.get("AIHUB_WEB_PROCESSES") or 2)
threads = int(os.environ.get("AIHUB_WEB_THREADS") or 8)
preload_app = True  # the application is loaded once and shared by the processes
timeout = 60  # seconds without a sign of life of a whole process
graceful_timeout = 8  # seconds for running requests when stopping
keepalive = 5
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108  a heartbeat must not wait for a disk
control_socket_disable = True
accesslog = None
errorlog = "-"
proc_name = "aihub-web"


def post_fork(server: Any, worker: Any) -> None:
    """A process of the web server ends with its master, also after kill -9 of that."""
    processes.set_death_signal()


def child_exit(server: Any, worker: Any) -> None:
    """What a process counted stays; what it is at the moment ends with it."""
    if metrics_directory:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # it has no types
