"""Holding a job: a heartbeat thread keeps the lease; everything the holder writes is guarded by its epoch."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import QuerySet

from aihub_backup.core.failures import Failure
from aihub_backup.core.jobs import clock, drain
from aihub_backup.core.jobs.progress import Meter
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import LEASED, JobState
from aihub_backup.core.processes import Child, boottime

log = logging.getLogger(__name__)


class LostLease(Failure):
    """Somebody else owns the job now; nothing may be committed any more."""

    code = "lost-lease"
    permanent = False


class Cancelled(Failure):
    """Somebody asked for the end of the work."""

    code = "cancelled"


class Stopping(Failure):
    """The worker is being shut down; the job goes back to the queue."""

    code = "worker-stopping"
    permanent = False


class Lease:
    """The right to work on a job, as a context: inside it a thread renews the lease and writes the progress.

    `lost`, `cancel_requested` and `stopping` may be read from any thread at any time; `check()` turns them into
    LostLease, Cancelled and Stopping. After `commit_guard()` only a lost lease can still stop the work.
    """

    def __init__(self, job: Job, claimed: float | None = None, monotonic: Callable[[], float] = boottime) -> None:
        """`claimed`: when the claim was sent, by the `monotonic` clock (seconds)."""
        self.job = job
        self.id: UUID = job.pk
        self.epoch = job.lease_epoch
        self._monotonic = monotonic
        self._renewed = monotonic() if claimed is None else claimed
        self._taken_away = False
        self._cancel_requested = job.cancel_requested
        self._committing = job.state == JobState.COMMITTING
        self._meter = Meter()
        self._unwritten = False
        self._children: list[Child] = []
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{self.id}", daemon=True)

    # --- what the holder asks ---

    @property
    def lost(self) -> bool:
        """Another holder took the job, or we could not renew for so long that another may have."""
        silent = self._monotonic() - self._renewed
        return self._taken_away or silent > settings.AIHUB_JOB_FENCE_SECONDS

    @property
    def cancel_requested(self) -> bool:
        """Somebody asked for the end, and there is still time for it."""
        return self._cancel_requested and not self._committing

    @property
    def stopping(self) -> bool:
        """The worker is shutting down, and the job can still go back to the queue."""
        return drain.asked() and not self._committing

    @property
    def committing(self) -> bool:
        """Past the point of no return."""
        return self._committing

    def check(self) -> None:
        """Raise LostLease, Cancelled or Stopping when the work must end."""
        if self.lost:
            raise LostLease("The lease of this job was lost; another worker may have it now.")
        if self.cancel_requested:
            raise Cancelled("The job was cancelled.")
        if self.stopping:
            raise Stopping("The worker is shutting down.")

    def progress(self, facts: Mapping[str, Any]) -> None:
        """Tell how far the work is (keys: `core.jobs.progress`). Cheap: the heartbeat writes, once a second at most."""
        with self._guard:
            self._meter.report(facts, self._monotonic())
            self._unwritten = True

    def own(self, child: Child) -> None:
        """Kill the child's process group at the moment the lease is lost."""
        with self._guard:
            self._children.append(child)

    # --- what the holder writes ---

    def commit_guard(self) -> None:
        """running → committing, if the lease is still ours: the last question before what cannot be undone.

        LostLease when it is not ours any more, Cancelled when a cancel came first.
        """
        self.check()
        rows = self.rows().filter(state=JobState.RUNNING, cancel_requested=False)
        if not rows.update(state=JobState.COMMITTING, **self._renewal()):
            self._explain_refusal()
        self._committing = True
        self.job.state = JobState.COMMITTING

    def finish(self) -> None:
        """running or committing → completed. Call it in the transaction that closes your own rows.

        LostLease when the job is not ours any more, Cancelled when a cancel came before the commit guard.
        """
        rows = self.rows().filter(state__in=(JobState.RUNNING, JobState.COMMITTING))
        if not rows.update(**self._completion()):
            self._explain_refusal()
        self.job.state = JobState.COMPLETED

    def rows(self) -> QuerySet[Job]:
        """The job's row, as long as it is ours."""
        return Job.objects.filter(pk=self.id, lease_epoch=self.epoch)

    def _completion(self) -> dict[str, Any]:
        return {
            "state": JobState.COMPLETED, "finished_at": clock.now(), "lease_expires_at": None, "lease_owner": "",
            "error_code": "", "error_message": "", "error_permanent": None, **self._progress(),
        }  # fmt: skip

    def _explain_refusal(self) -> None:
        """No row changed: say why, or return when the row is already where it should be."""
        state = self.rows().values_list("state", flat=True).first()
        if state == JobState.COMPLETED:
            return
        if state == JobState.CANCELLING:
            self._cancel_requested = True
            raise Cancelled("The job was cancelled.")
        self._taken_away = True
        raise LostLease("The lease of this job was lost; another worker may have it now.")

    # --- the heartbeat ---

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        """Runs in its own thread, hence with its own database connection."""
        try:
            while not self._ended.wait(settings.AIHUB_JOB_TICK_SECONDS) and not self.lost:
                self._pulse()
            if self.lost:
                self._kill_children()
        finally:
            connection.close()

    def _pulse(self) -> None:
        asked = self._monotonic()  # before the statement: the database counts from its arrival, never from earlier
        try:
            held = self._renew() if self._due(asked) else self._look()
        except (DatabaseError, InterfaceError) as error:
            log.warning("job %s: the heartbeat did not reach the database: %s", self.id, error)
            self._unwritten = True
            with contextlib.suppress(DatabaseError, InterfaceError):
                connection.close()
            return
        if held is None:
            self._taken_away = True
        elif held:
            self._renewed = asked

    def _due(self, now: float) -> bool:
        return self._unwritten or now - self._renewed >= settings.AIHUB_JOB_HEARTBEAT_SECONDS

    def _renew(self) -> bool | None:
        """True: renewed. None: the row is not ours any more."""
        with self._guard:
            fields, self._unwritten = self._progress(), False
        if not self.rows().filter(state__in=LEASED).update(**self._renewal(), **fields):
            return self._look()
        self._look()
        return True

    def _look(self) -> bool | None:
        """False: still ours (nothing written). None: not any more."""
        asked = self.rows().values_list("cancel_requested", flat=True).first()
        if asked is None:
            return None
        self._cancel_requested = asked
        return False

    def _renewal(self) -> dict[str, Any]:
        return {"lease_expires_at": clock.after(settings.AIHUB_JOB_LEASE_SECONDS), "heartbeat_at": clock.now()}

    def _progress(self) -> dict[str, Any]:
        stored = self._meter.progress()
        return {"progress": stored} if stored else {}

    def _kill_children(self) -> None:
        with self._guard:
            children = list(self._children)
        for child in children:
            child.kill_group(grace=0)
