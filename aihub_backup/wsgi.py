"""The web application for WSGI servers."""

from __future__ import annotations

import gc
import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aihub_backup.settings")

application = get_wsgi_application()

get_resolver().url_patterns  # noqa: B018  # loaded now, not while the first person waits
gc.freeze()  # none of it ever becomes garbage: a collection amid a request need not look at it (60 ms of a large page)
