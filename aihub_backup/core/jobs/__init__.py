"""Long work in rows: the database owns a job, the broker only rings for it.

    job = jobs.enqueue("backup-part", target_id=part.pk, queue="backup", node=part.node)     # in your transaction
    class PartHandler(jobs.Handler): def run(self, lease): …                                 # registered in ready()
    jobs.register("backup-part", "backups.services.parts.PartHandler")

A worker's `run_job` claims the row (`claim`), runs the handler under a `Lease` and writes down the end. `watchdog`
finds jobs whose holder is gone; `ring_unrung` repeats lost rings; `cancel` asks a job to end.
"""

from aihub_backup.core.jobs.cancel import cancel
from aihub_backup.core.jobs.doorbell import enqueue, ring, ring_unrung
from aihub_backup.core.jobs.handlers import Handler, handler_for, in_words, kinds, register
from aihub_backup.core.jobs.lease import Cancelled, Lease, LostLease, Stopping
from aihub_backup.core.jobs.machine import answer, claim, run, work
from aihub_backup.core.jobs.watchdog import watchdog

__all__ = [
    "Cancelled", "Handler", "Lease", "LostLease", "Stopping", "answer", "cancel", "claim", "enqueue", "handler_for",
    "in_words", "kinds", "register", "ring", "ring_unrung", "run", "watchdog", "work",
]  # fmt: skip
