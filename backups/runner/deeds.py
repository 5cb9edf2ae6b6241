"""What the runner can do, by name. Each deed takes the job and the caller and returns its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from backups.engine.errors import EngineError
from backups.runner import (
    adopting,
    backup,
    compacting,
    databases,
    keyring,
    looking,
    making,
    repairing,
    restore,
    validate,
)
from backups.runner.caller import Caller

Deed = Callable[[Mapping[str, Any], Caller], dict[str, Any]]

DEEDS: Mapping[str, Deed] = {
    "probe": making.probe,
    "init": making.init,
    "unlock": making.unlock,
    "test": backup.test,
    "backup": backup.backup,
    "find": looking.find,
    "forget": making.forget,
    "seal": making.seal,
    "hold": making.hold,
    "survey": adopting.survey,
    "enrol": adopting.enrol,
    "adopt": adopting.adopt,
    "key_slots": keyring.slots,
    "key_add": keyring.add,
    "key_change": keyring.change,
    "key_remove": keyring.remove,
    "key_rotate": keyring.rotate,
    "key_renew": keyring.renew,
    "verify": looking.verify,
    "repair": repairing.repair,
    "compact": compacting.compact,
    "compact_preview": compacting.preview,
    "entries": looking.entries,
    "search": looking.search,
    "diff": looking.diff,
    "restore": restore.restore,
    "validate": validate.validate,
    "database_judge": databases.judge,
    "database_build": databases.build,
    "database_rename": databases.rename,
    "database_discard": databases.discard,
    "database_called": databases.called,
}


def do(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """Do the named deed. EngineError and Failure carry a sentence for people."""
    deed = DEEDS.get(str(job.get("job")))
    if deed is None:
        raise EngineError(f"The runner knows no job “{job.get('job')}”.")
    return deed(job, caller)
