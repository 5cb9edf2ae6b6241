"""Where everything is reached."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from aihub_backup.core.api.routes import Nowhere
from aihub_backup.core.health import healthz
from aihub_backup.metrics.endpoint import metrics

API = "api/v1/"
# Each app brings the urls of its own part of the API; they share one prefix.
API_PARTS = ("recovery.api.urls", "backups.api.urls", "aihub_backup.core.api.urls")

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("healthz", healthz, name="healthz"),
    path("language/", login_not_required(set_language), name="set_language"),  # also before the log-in
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path(API, include([path("backup/", include(part)) for part in API_PARTS])),
    path(f"{API}schema", SpectacularAPIView.as_view(), name="schema"),
    path(f"{API}docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    re_path(r"^api/", Nowhere.as_view(), name="api-nowhere"),
]
