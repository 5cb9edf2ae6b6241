"""The REST API as the command line uses it. Addresses and shapes of requests and answers are written down only here."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aihub_backup.cli import output
from aihub_backup.cli.exits import CommandFailed, Exit, of_problem

Answer = dict[str, Any]
Follow = Callable[[Answer], None]

PREFIX = "/api/v1/backup"
PATIENCE = 30.0  # seconds for one answer
TRIES = 5  # a refused connection is tried again: the idempotency key makes that harmless


@dataclass(frozen=True)
class Client:
    """One console and one token."""

    address: str
    token: str

    # --- what is protected, and where it is kept -----------------------------------------------------------------

    def add_storage(self, name: str, kind: str, options: Mapping[str, object]) -> Answer:
        """A place for objects."""
        return self.post("/storages", {"name": name, "kind": kind, "options": options})

    def add_repository(self, name: str, storage: str) -> Answer:
        """A repository in a storage. The answer holds the recovery kit, this one time."""
        return self.post("/repositories", {"name": name, "storage": storage})

    def add_source(self, name: str, kind: str, options: Mapping[str, object]) -> Answer:
        """Something to protect."""
        return self.post("/sources", {"name": name, "kind": kind, "options": options})

    def prove_kit(self, repository: str, code: str) -> Answer:
        """Show that the printed recovery code opens the repository; before that no backup is accepted."""
        return self.post(f"/repositories/{repository}/prove-kit", {"code": code})

    # --- deeds: each answers at once and goes on in a worker -----------------------------------------------------

    def back_up(self, kind: str, sources: Sequence[str] = (), **more: object) -> Answer:
        """Start a backup. `kind` is one of the eight types; no sources = all that the type means."""
        return self.post("/create", {"type": kind, **({"sources": list(sources)} if sources else {}), **more})

    def verify(self, backup: str, level: int) -> Answer:
        """Start a verification at level 1, 2 or 3."""
        return self.post(f"/verify/{backup}", {"level": level})

    def recover(self, backup: str, path: str, reason: str, **more: object) -> Answer:
        """Start a full recovery to a new place."""
        target = {"kind": "new_place", "path": path}
        return self.post("/recover", {"type": "full", "backup_id": backup, "target": target, "reason": reason, **more})

    # --- how it goes ---------------------------------------------------------------------------------------------

    def backup(self, backup: str) -> Answer:
        """State, progress and parts of a backup."""
        return self.get(f"/status/{backup}")

    def verification(self, verification: str) -> Answer:
        """State and findings of a verification."""
        return self.get(f"/verifications/{verification}")

    def recovery(self, recovery: str) -> Answer:
        """State, progress and counts of a recovery."""
        return self.get(f"/recover/status/{recovery}")

    def finished(self, ask: Callable[[], Answer], patience: float, follow: Follow = lambda answer: None) -> Answer:
        """Ask until the work has ended. CommandFailed when it has not within `patience` seconds; it then goes on."""
        end = time.monotonic() + patience
        while not (answer := ask()).get("finished_at"):
            follow(answer)
            if time.monotonic() > end:
                raise CommandFailed(f"still {answer.get('status')} after {patience:.0f} s; it goes on.", Exit.TIMEOUT)
            time.sleep(0.25)
        follow(answer)
        return answer

    # --- HTTP ----------------------------------------------------------------------------------------------------

    def get(self, path: str, **query: str) -> Answer:
        """GET below the API's prefix."""
        return self._ask("GET", path + (f"?{urllib.parse.urlencode(query)}" if query else ""), None)

    def post(self, path: str, body: Mapping[str, object]) -> Answer:
        """POST below the API's prefix, with an idempotency key of its own."""
        return self._ask("POST", path, body)

    def delete(self, path: str) -> Answer:
        """DELETE below the API's prefix."""
        return self._ask("DELETE", path, None)

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + PREFIX + path, data, headers, method=method)  # noqa: S310  http(s) only: the console's own address
        return _answer(request)


def status(answer: Answer) -> str:
    """The state of a backup, verification or recovery."""
    return str(answer.get("status") or answer.get("state") or "unknown")


def identifier(answer: Answer) -> str:
    """The id of whatever the answer describes."""
    return str(answer["id"])


def identifiers(answer: Answer) -> list[str]:
    """The ids of all that one request started: a verification of several parts is several."""
    return [identifier(item) for item in answer.get("verifications") or answer.get("results") or [answer]]


def recovery_code(kit: Answer) -> str:
    """The code of a new repository's recovery kit."""
    return str(kit["recovery_kit"]["code"])


def kit_text(kit: Answer) -> str:
    """The recovery kit as a page to print."""
    return str(kit["recovery_kit"]["text"])


def recovered_place(target: Path, source: str, original: Path) -> Path:
    """Where in the target of a full recovery of several sources the thing that was at `original` is.

    Each source has a directory there: a source that is a directory becomes it, one that is a file lies in it.
    """
    place = target / source
    return place if original.is_dir() else place / original.name


def progress_line(answer: Answer) -> str:
    """How far the work is, in a few words."""
    progress = answer.get("progress") or {}
    done, percent = progress.get("bytes_done"), progress.get("percent")
    words = [status(answer), "" if percent is None else f"{percent:.0f} %", "" if done is None else output.size(done)]
    return "  ".join(word for word in words if word)


def problem(answer: Answer) -> str:
    """Why the work failed: its own sentence, and those of its parts."""
    errors = [answer.get("error"), *(part.get("error") for part in answer.get("parts") or [])]
    return " ".join(_sentence(error) for error in errors if error) or f"it ended {status(answer)}."


def _sentence(error: object) -> str:
    if isinstance(error, dict):
        return str(error.get("detail") or error.get("message") or error.get("title") or error)
    return str(error)


def _answer(request: urllib.request.Request) -> Answer:
    """Send until there is an answer: a console that restarts refuses or drops connections for a moment."""
    for attempt in range(1, TRIES + 1):
        try:
            with _direct.open(request, timeout=PATIENCE) as response:
                return _decoded(response.read())
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            if attempt == TRIES:
                raise CommandFailed(f"{request.host} does not answer: {_reason(error)}.", Exit.DEPENDENCY) from None
            time.sleep(0.5 * attempt)
    raise AssertionError("unreachable")


def _reason(error: Exception) -> object:
    return getattr(error, "reason", None) or error


def _decoded(data: bytes) -> Answer:
    value: Answer = json.loads(data) if data else {}
    return value


def _refusal(error: urllib.error.HTTPError) -> CommandFailed:
    """The problem document in one sentence."""
    try:
        document = _decoded(error.read())
    except ValueError:
        document = {}
    fields = [f"{item.get('pointer', '')}: {item.get('detail', '')}" for item in document.get("errors") or []]
    text = " ".join([str(document.get("detail") or document.get("title") or error.reason), *fields])
    code = str(document.get("code", ""))
    return CommandFailed(f"{text} ({error.code} {code})", of_problem(code, error.code))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another place."""

    def redirect_request(self, *arguments: object) -> None:
        return None


# No proxies: the console is addressed directly, and the token is for it alone.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
