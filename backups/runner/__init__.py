"""The runner: one fresh process for one piece of work. No Django, no models, no database.

    python -I -c "…; from backups.runner import main; main()"

Messages on stdin and stdout are msgpack maps behind a length (u32, big-endian; `wire`). The caller sends the job
first: {"job": name of a deed, "secrets": […texts to mask…], …what the deed needs (`deeds`)…}. Later it may send

    {"do": "commit"}     the answer to `ready`: the lease is still held, go through the point of no return
    {"do": "yes"}, {"do": "no"}     the answer to `question`
    {"do": "cancel"}     end the work, leave nothing behind

and the end of stdin means the same as cancel. The runner sends

    {"event": "progress", …}                                  at most once a second
    {"event": "item", "path", "action", "message", "severity"}   something odd about one item; the first MOST_ITEMS
    {"event": "problem", "object", "message", "paths", "snapshots"}   damage found by a check; the first MOST_ITEMS
    {"event": "rows", "rows": […]}                            entries or differences, in batches
    {"event": "ready", …}                                     everything is stored, nothing is visible: may I?
    {"event": "question", "what", …}                          how do things stand? Answered at once
    {"event": "result", "result": {…}}                        done; the last message
    {"event": "error", "code", "message", "permanent"}        not done; the last message

stderr carries log lines, one JSON object each. Secrets travel only inside the job and are masked everywhere else.
"""

from __future__ import annotations

import resource
import signal
import sys

from backups.runner.caller import Caller
from backups.runner.logs import configure

EXIT_DONE, EXIT_FAILED = 0, 1

BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[1]); from backups.runner import main; main()"


def main() -> None:
    """Do the one job that comes over stdin and exit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the keys
    configure()
    caller = Caller.of_this_process()
    signal.signal(signal.SIGTERM, caller.on_sigterm)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who called us; it sends cancel
    sys.exit(EXIT_DONE if _done(caller) else EXIT_FAILED)


def _done(caller: Caller) -> bool:
    from backups.runner import deeds, failing

    try:
        job = caller.job()
        caller.result(deeds.do(job, caller))
    except BaseException as error:
        caller.quiet()  # from here on a signal changes nothing any more
        caller.error(failing.problem(error))
        return False
    return True
