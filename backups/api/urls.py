"""This app's part of the API, below /api/v1/backup/. A backup's id is a UUID, so it never hides a word."""

from aihub_backup.core.api.routes import routes
from backups.api import backups, holds, inside, places, sources

urlpatterns = routes(
    ("create", backups.Create, "backup-create"),
    ("list", backups.Listing, "backup-list"),
    ("status/<uuid:backup_id>", backups.Status, "backup-status"),
    ("verify/<uuid:backup_id>", backups.Verify, "backup-verify"),
    ("verifications", backups.Verifications, "verifications"),
    ("verifications/<uuid:verification_id>", backups.OneVerification, "verification"),
    ("verifications/<uuid:verification_id>/cancel", backups.CancelVerification, "verification-cancel"),
    ("storages", places.Storages, "storages"),
    ("storages/<str:reference>", places.OneStorage, "storage"),
    ("storages/<str:reference>/test", places.TestStorage, "storage-test"),
    ("repositories", places.Repositories, "repositories"),
    ("repositories/<str:reference>", places.OneRepository, "repository"),
    ("repositories/<str:reference>/prove-kit", places.ProveKit, "repository-prove-kit"),
    ("repositories/<str:reference>/waive-kit", places.WaiveKit, "repository-waive-kit"),
    ("repositories/<str:reference>/accept-history", places.AcceptHistory, "repository-accept-history"),
    ("sources", sources.Sources, "sources"),
    ("sources/<str:reference>", sources.OneSource, "source"),
    ("sources/<str:reference>/test", sources.TestSource, "source-test"),
    ("sources/<str:reference>/pause", sources.PauseSource, "source-pause"),
    ("sources/<str:reference>/resume", sources.ResumeSource, "source-resume"),
    ("policies", sources.Policies, "policies"),
    ("policies/<str:reference>", sources.OnePolicy, "policy"),
    ("<uuid:backup_id>", backups.One, "backup"),
    ("<uuid:backup_id>/cancel", backups.Cancel, "backup-cancel"),
    ("<uuid:backup_id>/hold", holds.Hold, "backup-hold"),
    ("<uuid:backup_id>/release", holds.Release, "backup-release"),
    ("<uuid:backup_id>/contents", inside.Contents, "backup-contents"),
    ("<uuid:backup_id>/diff", inside.Diff, "backup-diff"),
    ("<uuid:backup_id>/log", inside.Log, "backup-log"),
)
