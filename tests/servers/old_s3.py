"""A server of S3 as there were many: it signs nothing, knows no conditions and no ranges, and keeps a dict."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.servers.answering import Handler, serving

_MISSING = b"<Error><Code>NoSuchKey</Code><Message>Nothing there</Message></Error>"
_UNKNOWN = b"<Error><Code>NotImplemented</Code><Message>A header you provided is not implemented</Message></Error>"


@dataclass
class OldServer:
    """What it keeps by key, the checksums it was told, and how it takes If-None-Match: ignores it, or refuses it."""

    url: str = ""
    refuses_conditions: bool = False
    objects: dict[str, bytes] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def old_server() -> Iterator[OldServer]:
    """One that runs."""
    kept = OldServer()
    with serving(type("Keeping", (_Old,), {"kept": kept})) as kept.url:
        yield kept


class _Old(Handler):
    kept: OldServer

    def do_PUT(self) -> None:
        data, key = self.body(), self._key()
        if self.kept.refuses_conditions and self.headers.get("If-None-Match"):
            self.answer(501, _UNKNOWN)
            return
        self.kept.objects[key] = data
        self.kept.sums[key] = self.headers.get("x-amz-checksum-sha256", "")
        self.answer(200, ETag='"an etag"')

    def do_GET(self) -> None:
        key = self._key()
        if "list-type" in self.path:
            self.answer(200, self._listing())
        elif key in self.kept.objects:
            sums = {"x_amz_checksum_sha256": self.kept.sums[key]} if self.kept.sums.get(key) else {}
            self.answer(200, self.kept.objects[key], ETag='"an etag"', **sums)
        else:
            self.answer(404, _MISSING)

    def do_HEAD(self) -> None:
        data = self.kept.objects.get(self._key())
        self.answer(404) if data is None else self.answer(200, data, ETag='"an etag"')

    def do_DELETE(self) -> None:
        self.kept.objects.pop(self._key(), None)
        self.answer(204)

    def _key(self) -> str:
        path = urlsplit(self.path).path
        self.kept.requests.append(f"{self.command} {path}")
        return unquote(path).split("/", 2)[-1]

    def _listing(self) -> bytes:
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        found = sorted((key, data) for key, data in self.kept.objects.items() if key.startswith(prefix))
        rows = "".join(f"<Contents><Key>{escape(k)}</Key><Size>{len(d)}</Size></Contents>" for k, d in found)
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()
