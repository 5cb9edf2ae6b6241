"""The programs that together are the console: web server, workers, scheduler."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from aihub_backup.cli.supervisor import Program, Pulse
from aihub_backup.core.variables import secret
from aihub_backup.home import CALLED, HEARD

QUEUES = ("backup", "recovery")
QUICK_QUEUES = ("control", "notify")
SILENCE = 110.0  # seconds between the newest call and the last answer; a call is made every minute (core.nodes.call)
ALONE = 60.0  # seconds; longer than a job takes between two of its programs
STARTING = 300.0  # seconds for a worker's start on a host that has no time for it


@dataclass(frozen=True)
class Site:
    """Where one console lives: its directory, its node's name, its listening socket and the address people use."""

    home: Path
    node: str
    descriptor: int
    address: str
    drain: float = 60.0  # seconds that running backups and recoveries get to end when the console stops
    logs_to_files: bool = True

    def environment(self) -> dict[str, str]:
        """The environment of every program of this console."""
        own = {
            "AIHUB_HOME": str(self.home),
            "AIHUB_PUBLIC_URL": self.address,
            "DJANGO_SETTINGS_MODULE": "aihub_backup.settings",
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **own}


def programs(site: Site) -> list[Program]:
    """All of them. Two workers: what takes a second (watching, ringing, notifying) never waits behind a long backup."""
    slots = os.environ.get("AIHUB_WORKER_SLOTS") or str(max(2, os.cpu_count() or 2))
    jobs = ["--pool", "prefork", "--concurrency", slots, "--queues", ",".join([*QUEUES, f"node.{site.node}"])]
    quick = ["--pool", "threads", "--concurrency", "2", "--queues", ",".join(QUICK_QUEUES)]
    web = ("gunicorn", "--config", "python:aihub_backup.cli.web", "--bind", f"fd://{site.descriptor}")
    return [
        _program(
            site,
            "web",
            (*web, "aihub_backup.wsgi:application"),
            descriptors=(site.descriptor,),
            more={"PROMETHEUS_MULTIPROC_DIR": str(site.home / "metrics")},
        ),
        _program(site, "worker", _worker(site, "jobs", jobs), grace=site.drain, pulse=_pulse(site)),
        _program(site, "control", _worker(site, "control", quick)),
        _program(site, "beat", ("celery", "--app", "aihub_backup.celery", "beat", "--pidfile=")),
    ]


def _pulse(site: Site) -> Pulse | None:
    """Of the pool that does the jobs. Where messages are files its processes share one pipe and its lock: whoever is
    killed while it listens (out of memory, `kill -9`) takes the lock with it, and the others hear nothing any more.
    With a broker on a server each has a pipe of its own."""
    if secret("AIHUB_BROKER_URL"):
        return None
    return Pulse(site.home / CALLED, site.home / HEARD, SILENCE, ALONE, STARTING)


def _worker(site: Site, name: str, options: list[str]) -> tuple[str, ...]:
    common = ("--hostname", f"{name}@{site.node}", "--without-mingle", "--without-gossip")
    return ("celery", "--app", "aihub_backup.celery", "worker", *common, *options)


def _program(
    site: Site,
    name: str,
    module: tuple[str, ...],
    grace: float = 10.0,
    descriptors: tuple[int, ...] = (),
    more: Mapping[str, str] = MappingProxyType({}),
    pulse: Pulse | None = None,
) -> Program:
    return Program(
        name=name,
        command=(sys.executable, "-m", *module),
        environment={**site.environment(), **more},
        directory=str(site.home),
        log=site.home / "log" / f"{name}.log" if site.logs_to_files else None,
        descriptors=descriptors,
        grace=grace,
        pulse=pulse,
    )
