"""Every setting of the console. Each value comes from the environment or `.env`; a secret X also from the file X_FILE.

Two modes. *embedded* (the default): everything lives under AIHUB_HOME: SQLite, a broker made of files, keys made on
first use. *production*: AIHUB_DATABASE_URL, AIHUB_BROKER_URL or AIHUB_MODE say so; then no key is ever made silently.
"""

from __future__ import annotations

import re
import socket
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _
from kombu import Exchange, Queue

from aihub_backup import connections, home, look, openapi
from aihub_backup.core import keys, logs, redaction
from aihub_backup.core.variables import choice, flag, integer, seconds, secret, text, words

BASE_DIR = home.BASE_DIR
AIHUB_VERSION = str(tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"])

home.read_variables()


def directory(path: Path) -> Path:
    """The directory, made private (0700) when it is not there."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"AIHUB_HOME: {path} cannot be made: {error.strerror}.") from None
    return path


# --- where we are ---------------------------------------------------------------------------------------------------

AIHUB_HOME = home.path()  # made below: whoever is refused before finds no half-made home

_database_url = secret("AIHUB_DATABASE_URL")
_broker_url = secret("AIHUB_BROKER_URL")
_cache_url = secret("AIHUB_CACHE_URL")
_outside = bool(_broker_url) or (bool(_database_url) and not _database_url.startswith("sqlite"))

AIHUB_MODE = choice("AIHUB_MODE", "production" if _outside else "embedded", ("embedded", "production"))
EMBEDDED = AIHUB_MODE == "embedded"

# The name under which this host's workers take node-bound work.
AIHUB_NODE = text("AIHUB_NODE", re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower()).strip("-") or "node")
if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", AIHUB_NODE):
    raise ImproperlyConfigured(f"AIHUB_NODE must be lower-case letters, digits and dashes; it is {AIHUB_NODE!r}.")

# Commands that are typed beside `aihub up --port …` write into repositories' logs which console this is.
AIHUB_PUBLIC_URL = text("AIHUB_PUBLIC_URL", home.served_at(AIHUB_HOME) or "http://127.0.0.1:8000").rstrip("/")
_public = urlsplit(AIHUB_PUBLIC_URL)
if _public.scheme not in ("http", "https") or not _public.hostname:
    raise ImproperlyConfigured(f"AIHUB_PUBLIC_URL must be http(s)://host[:port]; it is {AIHUB_PUBLIC_URL!r}.")
_https = _public.scheme == "https"

# --- keys -----------------------------------------------------------------------------------------------------------

_keys_directory = AIHUB_HOME / "keys"
AIHUB_APP_KEYS_PATH = _keys_directory / "app_keys"
AIHUB_KIT_PATH = AIHUB_HOME / home.KIT
AIHUB_CALLED_PATH, AIHUB_HEARD_PATH = AIHUB_HOME / home.CALLED, AIHUB_HOME / home.HEARD
AIHUB_VARIABLE_FILES = [home.variable_file(), *home.secret_files()]  # they may hold keys; no source reads them

LEAST_SECRET = 32  # characters: whoever guesses it signs sessions as anybody
_HOW_TO_MAKE_ONE = "“openssl rand -base64 48” makes one."
_HOW_TO_MAKE_A_RING = "“echo k1:$(openssl rand -base64 32)” makes one."


def _secret_key() -> str:
    given = secret("AIHUB_SECRET_KEY")
    if not given and EMBEDDED:
        given = keys.read_or_make(_keys_directory / "secret_key", keys.new_secret)
    if not given:
        raise ImproperlyConfigured(
            f"AIHUB_SECRET_KEY (or AIHUB_SECRET_KEY_FILE) is not set; production needs it. {_HOW_TO_MAKE_ONE}"
        )
    _must_be_long("AIHUB_SECRET_KEY", given, _HOW_TO_MAKE_ONE)
    return given


def _fallbacks() -> list[str]:
    found = [key for key in secret("AIHUB_SECRET_KEY_FALLBACKS").split(",") if key]
    for key in found:
        _must_be_long("AIHUB_SECRET_KEY_FALLBACKS", key, "Leave it out: everybody signs in once more.")
    return found


def _must_be_long(name: str, key: str, cure: str) -> None:
    if len(key) < LEAST_SECRET and not EMBEDDED:
        told = f"{name} holds a key of {len(key)} characters; production needs {LEAST_SECRET} or more."
        raise ImproperlyConfigured(f"{told} {cure}")


def _app_keys() -> keys.KeyRing:
    """Empty when it was lost from an embedded home: the system check says so, and whatever needs a key again."""
    given = secret("AIHUB_APP_KEYS")
    file = home.database_file(_database_url, AIHUB_HOME)
    if not given and EMBEDDED and (AIHUB_APP_KEYS_PATH.exists() or file is None or not file.exists()):
        # Never beside an existing database: a new key could not open what the lost one had sealed.
        given = keys.read_or_make(AIHUB_APP_KEYS_PATH, keys.new_ring)
    ring = _ring(given)
    if not ring and not EMBEDDED:  # the ring, not the text: one of separators alone holds no key either
        raise ImproperlyConfigured(
            "AIHUB_APP_KEYS (or AIHUB_APP_KEYS_FILE) is not set; production needs it, and keeps it."
            f" {_HOW_TO_MAKE_A_RING}"
        )
    return ring


def _ring(given: str) -> keys.KeyRing:
    redaction.remember(part.partition(":")[2] for part in given.split(","))
    try:
        return keys.parse_ring(given)
    except ValueError as error:
        raise ImproperlyConfigured(f"AIHUB_APP_KEYS: {error}.") from None


if EMBEDDED:
    directory(AIHUB_HOME)
SECRET_KEY = _secret_key()
SECRET_KEY_FALLBACKS = _fallbacks()
AIHUB_APP_KEYS = _app_keys()
directory(AIHUB_HOME)
redaction.remember([SECRET_KEY, *SECRET_KEY_FALLBACKS])

# --- Django ---------------------------------------------------------------------------------------------------------

DEBUG = flag("AIHUB_DEBUG", False)
ALLOWED_HOSTS = [_public.hostname, "localhost", "127.0.0.1", "[::1]", *words("AIHUB_ALLOWED_HOSTS")]
ROOT_URLCONF = "aihub_backup.urls"
WSGI_APPLICATION = "aihub_backup.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "core.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # first: whoever is locked out is not even compared
    "django.contrib.auth.backends.ModelBackend",
    "aihub_backup.core.access.GrantBackend",
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "admin:index"
APPEND_SLASH = True

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_prometheus",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "axes",
    "aihub_backup.core",
    "backups",
    "recovery",
    "disaster",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "aihub_backup.core.requests.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "aihub_backup.core.passwords.OneTimePasswordMiddleware",
    "aihub_backup.core.signin.SecondFactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "aihub_backup.core.requests.UnreadableValueMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "aihub_backup.look.frame",
            ],
        },
    },
]

# --- database, cache, sessions --------------------------------------------------------------------------------------

_pool = integer("AIHUB_DATABASE_POOL", 8, minimum=2)
DATABASES = {"default": connections.database(_database_url, home=AIHUB_HOME, pool=_pool)}
CACHES = {"default": connections.cache(_cache_url)}
DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True
SESSION_ENGINE = "django.contrib.sessions.backends.db"  # a person stays signed in when the cache is lost
SESSION_COOKIE_NAME = "aihub_session"
SESSION_COOKIE_AGE = int(timedelta(hours=12).total_seconds())

# --- the web --------------------------------------------------------------------------------------------------------

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_HTTPONLY = True
CSRF_TRUSTED_ORIGINS = [f"{_public.scheme}://{_public.netloc}"]
SECURE_SSL_REDIRECT = _https
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^metrics$"]  # asked behind the proxy over plain HTTP
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _https else None  # we never end TLS ourselves
SECURE_HSTS_SECONDS = integer("AIHUB_HSTS_SECONDS", 31_536_000) if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _https
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# W021 asks for the browsers' preload list: that is for the owner of the whole domain to decide, not for one console.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
if not _https:  # plain HTTP is meant (a loop-back address, or a person said --insecure); what follows from it is known
    SILENCED_SYSTEM_CHECKS += ["security.W004", "security.W008", "security.W012", "security.W016"]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# Signing in: ten failures of one name from one address lock that pair for a while; nobody else, and no token.
AXES_FAILURE_LIMIT = integer("AIHUB_LOGIN_ATTEMPTS", 10, minimum=1)
AXES_COOLOFF_TIME = timedelta(minutes=integer("AIHUB_LOCKOUT_MINUTES", 15, minimum=1))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_CALLABLE = "aihub_backup.core.signin.locked_out"
AXES_CLIENT_IP_CALLABLE = "aihub_backup.core.signin.client_ip"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # the wait ends, whoever goes on trying
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False  # its pages know no scope; `aihub account unlock` ends a lock
AXES_VERBOSE = False

AIHUB_REQUIRE_MFA = flag("AIHUB_REQUIRE_MFA", False)
ACCOUNT_ADAPTER = "aihub_backup.core.signin.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = False
# Passwords are counted by axes, which locks the pair and not the address; this counts codes of the second factor.
ACCOUNT_RATE_LIMITS = {"login": None, "login_failed": "5/5m/key"}
MFA_ADAPTER = "aihub_backup.core.signin.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_FORMS = {"activate_totp": "aihub_backup.core.signin.ActivateTotpForm"}
MFA_TOTP_ISSUER = "AI Hub Backup"

STATIC_URL = "static/"
STATIC_ROOT = Path(text("AIHUB_STATIC_ROOT")) if text("AIHUB_STATIC_ROOT") else directory(AIHUB_HOME / "static")
# A release is collected once, with hashed names; without that step files are served from where they lie.
_collected = (STATIC_ROOT / "staticfiles.json").exists()
_static = "ManifestStaticFilesStorage" if _collected else "StaticFilesStorage"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": f"django.contrib.staticfiles.storage.{_static}"},
}
WHITENOISE_USE_FINDERS = not _collected
MEDIA_ROOT = AIHUB_HOME / "media"

UNFOLD, FORMAT_MODULE_PATH = look.UNFOLD, "aihub_backup.formats"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale", BASE_DIR / "locale" / "frame"]  # our words; those of unfold, which has none
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# --- API ------------------------------------------------------------------------------------------------------------

KNOX_TOKEN_MODEL = "core.ApiToken"  # noqa: S105  # the name of a model
MIGRATION_MODULES = {"knox": None}  # its own token table would lie empty, and keep PostgreSQL from emptying ours
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": timedelta(days=90), "TOKEN_PREFIX": "aihub_"}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "aihub_backup.core.api.authentication.BearerAuthentication",  # first: its challenge makes a missing login 401
        "aihub_backup.core.api.authentication.BrowserAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["aihub_backup.core.api.parsers.JsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "aihub_backup.core.problems.handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = openapi.SETTINGS

# --- jobs and workers -----------------------------------------------------------------------------------------------

AIHUB_JOB_QUEUES = ("backup", "recovery", "control", "notify")
AIHUB_JOB_HANDLERS: dict[str, str] = {}  # kind → dotted path; apps register their own in ready()
AIHUB_JOB_HEARTBEAT_SECONDS = seconds("AIHUB_JOB_HEARTBEAT_SECONDS", 15)
AIHUB_JOB_LEASE_SECONDS = seconds("AIHUB_JOB_LEASE_SECONDS", 90)
AIHUB_JOB_FENCE_SECONDS = seconds("AIHUB_JOB_FENCE_SECONDS", 60)  # without a heartbeat for so long we stop ourselves
AIHUB_JOB_TICK_SECONDS = seconds("AIHUB_JOB_TICK_SECONDS", 1)  # progress is written and cancels are seen this often
AIHUB_JOB_RETRY_SECONDS = seconds("AIHUB_JOB_RETRY_SECONDS", 30)  # first pause before a new attempt; doubles
AIHUB_JOB_RETRY_MOST_SECONDS = seconds("AIHUB_JOB_RETRY_MOST_SECONDS", 3600)
AIHUB_JOB_RING_SECONDS = seconds("AIHUB_JOB_RING_SECONDS", 60)  # a queued job nobody came for is rung again

_broker_folders = [AIHUB_HOME / "broker" / name for name in ("queue", "control")]
_of_files = not _broker_url or _broker_url.startswith("filesystem")
CELERY_BROKER_URL = _broker_url or "filesystem://localhost//"  # without a host kombu warns at each start
CELERY_BROKER_TRANSPORT_OPTIONS = (
    connections.file_broker(*map(directory, _broker_folders)) if _of_files else connections.broker(_broker_url)
)
CELERY_BROKER_CONNECTION_TIMEOUT = 4
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its broker for ever
CELERY_RESULT_BACKEND = None
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False  # the row owns the job; a message is only a bell
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_MAX_TASKS_PER_CHILD = integer("AIHUB_WORKER_MAX_TASKS", 200, minimum=1)
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TASK_DEFAULT_QUEUE = "control"
# Exchange and routing key by name: left out, every queue would be bound to the default's and hear every message.
CELERY_TASK_QUEUES = [Queue(name, Exchange(name), name) for name in (*AIHUB_JOB_QUEUES, f"node.{AIHUB_NODE}")]
CELERY_TASK_CREATE_MISSING_QUEUES = True  # a ring for another node's queue must go out from here
CELERY_TASK_ROUTES = {"aihub_backup.core.tasks.*": {"queue": "control"}}
CELERY_TIMEZONE = "UTC"
CELERY_ENABLE_UTC = True
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
CELERY_BEAT_SYNC_EVERY = 1  # what was fired is written down at once: a killed scheduler does not fire it again
CELERY_BEAT_SCHEDULE: dict[str, Any] = {
    # A tick nobody took before the next one is worthless: it expires.
    "watch the jobs": {"task": "aihub_backup.core.tasks.watchdog", "schedule": 30.0, "options": {"expires": 30}},
    "ring for queued jobs": {"task": "aihub_backup.core.tasks.ring", "schedule": 15.0, "options": {"expires": 15}},
    "call the nodes": {"task": "aihub_backup.core.tasks.call_nodes", "schedule": 60.0, "options": {"expires": 60}},
    "verify what is due": {"task": "backups.tasks.verify_due", "schedule": 600.0, "options": {"expires": 600}},
    "settle the slots": {"task": "backups.sweep_schedules", "schedule": 60.0, "options": {"expires": 60}},
    "give space back": {"task": "backups.compact_due", "schedule": 600.0, "options": {"expires": 600}},
    "apply retention": {"task": "backups.apply_retention", "schedule": 86_400.0, "options": {"expires": 86_400}},
}

# --- recoveries ---------------------------------------------------------------------------------------------------

# Directories below which recoveries to a new place may write; empty: anywhere but in system directories and our own.
AIHUB_RECOVERY_ROOTS = words("AIHUB_RECOVERY_ROOTS")
if any(not root.startswith("/") for root in AIHUB_RECOVERY_ROOTS):
    raise ImproperlyConfigured("AIHUB_RECOVERY_ROOTS must be absolute paths between commas.")

# --- metrics --------------------------------------------------------------------------------------------------------

AIHUB_METRICS_TOKEN = secret("AIHUB_METRICS_TOKEN")  # without it there is no /metrics
PROMETHEUS_EXPORT_MIGRATIONS = False  # asks the database while the process starts

# --- logs -----------------------------------------------------------------------------------------------------------

AIHUB_LOG_LEVEL = choice("AIHUB_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
AIHUB_LOG_FORMAT = choice("AIHUB_LOG_FORMAT", "json", ("json", "console"))
LOGGING = logs.logging_config(AIHUB_LOG_LEVEL, AIHUB_LOG_FORMAT)
logs.configure_structlog()
