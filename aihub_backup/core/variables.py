"""Reading settings from environment variables: typed, and loud when a value makes no sense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured
from dotenv import load_dotenv
from environs import Env, EnvError

from aihub_backup.core import redaction

T = TypeVar("T")

env = Env()


def read_file(path: str | Path) -> None:
    """Add the variables of a `.env` file, if there is one; what the environment has already wins. They are in the
    environment itself then: parts that read it without this module, and child processes, know them too."""
    load_dotenv(path)


def read(name: str, parse: Callable[..., T], default: T, wish: str) -> T:
    """The parsed value; the default where the variable is absent or empty; a loud sentence when it makes no sense."""
    if not env.str(name, ""):
        return default
    try:
        return parse(name)
    except (EnvError, ValueError):
        raise ImproperlyConfigured(f"{name} must be {wish}; it is {env.str(name)!r}.") from None


def text(name: str, default: str = "") -> str:
    """A text."""
    return env.str(name, "") or default


def flag(name: str, default: bool) -> bool:
    """true or false."""
    return read(name, env.bool, default, "true or false")


def integer(name: str, default: int, minimum: int = 0, maximum: int | None = None) -> int:
    """A whole number, not below the minimum and not above the maximum (None: there is none)."""
    number = read(name, env.int, default, "a whole number")
    if number < minimum:
        raise ImproperlyConfigured(f"{name} must be at least {minimum}; it is {number}.")
    if maximum is not None and number > maximum:
        raise ImproperlyConfigured(f"{name} must be at most {maximum}; it is {number}.")
    return number


def seconds(name: str, default: float) -> float:
    """A duration in seconds, above zero."""
    number = read(name, env.float, default, "a number of seconds")
    if number <= 0:
        raise ImproperlyConfigured(f"{name} must be above zero; it is {number}.")
    return number


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """One word of several."""
    word = text(name, default)
    if word not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}; it is {word!r}.")
    return word


def words(name: str) -> list[str]:
    """A list of words between commas."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def secret(name: str) -> str:
    """The secret from the variable, or from the file that <name>_FILE names; remembered, so that no log shows it."""
    path = text(f"{name}_FILE")
    if path and text(name):
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set; set one of them.")
    value = _contents(f"{name}_FILE", path) if path else text(name)
    redaction.remember([value])
    return value


def _contents(name: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ImproperlyConfigured(f"{name} names {path}, which cannot be read: {reason}.") from None
