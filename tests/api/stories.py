"""Calling the API as a program does, and what is said about its answers."""

from __future__ import annotations

from typing import Any

from rest_framework.test import APIClient

from tests.api import conformity

PREFIX = "/api/v1/backup"


class Answer:
    """An answer with what every story looks at."""

    def __init__(self, response: Any) -> None:
        conformity.check(response)
        self.response = response
        self.status: int = response.status_code
        self.headers: Any = response.headers
        self.body: Any = response.json() if response.content else None

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    def __repr__(self) -> str:
        return f"{self.status} {self.body}"

    @property
    def pointers(self) -> list[str]:
        """Where the wrong members are."""
        return [error["pointer"] for error in self.body.get("errors", [])]


class Caller:
    """A client below the API's prefix."""

    def __init__(self, client: APIClient) -> None:
        self.client = client

    def get(self, path: str, query: dict[str, Any] | None = None, **headers: str) -> Answer:
        """GET."""
        return Answer(self.client.get(self._full(path), query or {}, headers=_named(headers)))

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        """POST of a JSON body."""
        return Answer(self.client.post(self._full(path), body, format="json", headers=_named(headers)))

    def patch(self, path: str, body: Any, **headers: str) -> Answer:
        """PATCH of a JSON body."""
        return Answer(self.client.patch(self._full(path), body, format="json", headers=_named(headers)))

    def delete(self, path: str, query: str = "", **headers: str) -> Answer:
        """DELETE."""
        return Answer(self.client.delete(self._full(path) + query, headers=_named(headers)))

    def raw(self, path: str, body: bytes, content_type: str = "application/json") -> Answer:
        """POST of bytes as they are."""
        sent: Any = body  # the stubs know only texts
        return Answer(self.client.generic("POST", self._full(path), sent, content_type=content_type))

    @staticmethod
    def _full(path: str) -> str:
        return path if path.startswith("/api/") else PREFIX + path


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def is_problem(answer: Answer, status: int, code: str) -> bool:
    """A whole problem document of this kind."""
    wanted = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable"}
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert wanted <= set(answer.body), answer
    assert answer["code"] == code, answer
    assert answer["type"] == f"/problems/{code}"
    assert answer["status"] == status
    assert answer["detail"]
    assert answer["request_id"] == answer.headers["X-Request-ID"]
    return True
