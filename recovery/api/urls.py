"""This app's part of the API, below /api/v1/backup/."""

from aihub_backup.core.api.routes import routes
from recovery.api import views

urlpatterns = routes(
    ("recover", views.Recover, "recover"),
    ("recover/list", views.Listing, "recover-list"),
    ("recover/status/<uuid:recovery_id>", views.Status, "recover-status"),
    ("recover/rollback/<uuid:recovery_id>", views.Rollback, "recover-rollback"),
    ("recover/<uuid:recovery_id>", views.One, "recover-one"),
    ("recover/<uuid:recovery_id>/log", views.Log, "recover-log"),
)
