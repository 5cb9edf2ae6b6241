"""One log line a JSON object (ECS names), with every known secret scrubbed, from our code and from libraries alike."""

from __future__ import annotations

import logging
from typing import Any

import structlog

from aihub_backup.core.redaction import scrub

ECS_VERSION = "8.11"


class ScrubbingFilter(logging.Filter):
    """Renders the message with its arguments and takes the secrets out, before any formatter sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the record through, cleaned."""
        if isinstance(record.msg, dict):  # structlog hands its event dictionary over as the message
            record.msg = {key: _clean(value) for key, value in record.msg.items()}
            return True
        record.msg = scrub(record.getMessage())
        record.args = ()
        return True


class ScrubbingFormatter(structlog.stdlib.ProcessorFormatter):
    """The last gate: tracebacks are rendered here, so they are scrubbed here."""

    def format(self, record: logging.LogRecord) -> str:
        """The finished line, cleaned."""
        return scrub(super().format(record))


def logging_config(level: str, style: str) -> dict[str, Any]:
    """A `logging.config.dictConfig` dictionary; `style` is "json" or "console"."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"scrub": {"()": ScrubbingFilter}},
        "formatters": {
            "line": {"()": ScrubbingFormatter, "processors": _renderers(style), "foreign_pre_chain": _shared()}
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["scrub"]}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django.server": {"handlers": ["stderr"], "level": level, "propagate": False},
            "kombu": {"level": "WARNING"},
            "amqp": {"level": "WARNING"},
        },
    }


def configure_structlog() -> None:
    """Send structlog through stdlib logging, so that one configuration rules both."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="@timestamp"),
    ]


def _renderers(style: str) -> list[Any]:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if style == "console":
        return [remove, structlog.dev.ConsoleRenderer(timestamp_key="@timestamp", colors=False)]
    return [remove, structlog.processors.format_exc_info, _ecs, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _ecs(_logger: Any, _name: str, event: Any) -> Any:
    named = {
        "@timestamp": event.pop("@timestamp", None),
        "ecs.version": ECS_VERSION,
        "log.level": event.pop("level", None),
        "log.logger": event.pop("logger", None),
        "message": event.pop("event", ""),
    }
    if "request_id" in event:
        named["trace.id"] = event.pop("request_id")
    if "exception" in event:
        named["error.stack_trace"] = event.pop("exception")
    return named | event


def _clean(value: Any) -> Any:
    return scrub(value) if isinstance(value, str) else value
