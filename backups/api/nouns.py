"""The things of this app that requests may name."""

from aihub_backup.core.api.names import Noun, register

API = "/api/v1/backup"

BACKUP = register(Noun("backup", "backups.Backup", "backups.view_backup", f"{API}/status/{{id}}"))
VERIFICATION = register(
    Noun("verification", "backups.Verification", "backups.view_verification", f"{API}/verifications/{{id}}")
)
REPOSITORY = register(
    Noun("repository", "backups.Repository", "backups.view_repository", f"{API}/repositories/{{id}}", True)
)
STORAGE = register(Noun("storage", "backups.Storage", "backups.view_storage", f"{API}/storages/{{id}}", True))
SOURCE = register(Noun("source", "backups.Source", "backups.view_source", f"{API}/sources/{{id}}", True))
POLICY = register(Noun("policy", "backups.Policy", "backups.view_policy", f"{API}/policies/{{id}}", True))
SITE = register(Noun("site", "backups.Site", "backups.view_site", "/admin/backups/site/{id}/change/", True))
NODE = register(Noun("node", "core.Node", "core.view_node", "/admin/core/node/{id}/change/", True))
SCHEDULE = register(Noun("schedule", "backups.Schedule", "backups.view_schedule", f"{API}/schedule/{{id}}", True))
