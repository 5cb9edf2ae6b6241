"""The web application for WSGI servers."""

from __future__ import annotations

import gc
import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aihub_backup.settings")

application = get_wsgi_application()

get_resolver().url_patterns  # noqa: B018  # loaded now, not while the first person waits
gc.collect()
gc.freeze()  # what is left never becomes garbage: no collection amid a request looks at it (60 ms, of a large page)
