"""The foundation's rows."""

from aihub_backup.core.models.audit import AuditEvent
from aihub_backup.core.models.grant import Grant
from aihub_backup.core.models.idempotency import AnsweredRequest
from aihub_backup.core.models.job import Job
from aihub_backup.core.models.people import ApiToken, User
from aihub_backup.core.models.place import Environment, Node

__all__ = ["AnsweredRequest", "ApiToken", "AuditEvent", "Environment", "Grant", "Job", "Node", "User"]
