"""The foundation's part of the API, below /api/v1/backup/."""

from aihub_backup.core.api.routes import routes
from aihub_backup.core.api.tokens import Token, Tokens

urlpatterns = routes(
    ("tokens", Tokens, "tokens"),
    ("tokens/<uuid:token_id>", Token, "token"),
)
