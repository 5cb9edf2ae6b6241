"""Where everything is reached."""

from __future__ import annotations

from allauth.account import views as account
from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from aihub_backup.core.api.routes import Nowhere
from aihub_backup.core.health import healthz
from aihub_backup.core.problem_pages import problem
from aihub_backup.metrics.endpoint import metrics

API = "api/v1/"
# Each app brings the urls of its own part of the API; they share one prefix.
API_PARTS = ("recovery.api.urls", "backups.api.urls", "aihub_backup.core.api.urls")

# The admin's own form knows no second factor: whoever comes to it is led to ours.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]  # as allauth wants it

# Of allauth only signing in: no sign-up, no mail, no password of its own (the admin changes it).
SIGN_IN = [
    path("login/", account.login, name="account_login"),
    path("logout/", account.logout, name="account_logout"),
    path("inactive/", account.account_inactive, name="account_inactive"),
    path("reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("second-factor/", include("allauth.mfa.urls")),
]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("healthz", healthz, name="healthz"),
    path("language/", login_not_required(set_language), name="set_language"),  # also before the log-in
    path("metrics", metrics, name="metrics"),
    path("problems/<slug:code>", problem, name="problem"),  # where TYPES of core.problems leads
    path("admin/", admin.site.urls),
    path("accounts/", include(SIGN_IN)),
    path(API, include([path("backup/", include(part)) for part in API_PARTS])),
    path(f"{API}schema", SpectacularAPIView.as_view(), name="schema"),
    path(f"{API}docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    re_path(r"^api/", Nowhere.as_view(), name="api-nowhere"),
]

handler400 = "aihub_backup.core.api.errors.bad_request"
handler500 = "aihub_backup.core.api.errors.server_error"
