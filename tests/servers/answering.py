"""Small servers in threads of the test's own process: one that always says the same, and one that cuts the line."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Keeps the connection and writes no log."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's word
        """Tests have no use for it."""

    def body(self) -> bytes:
        """What was sent with the request."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """One whole answer; "_" in a header's name stands for "-"."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.pop("Size", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def serving(handler: type[Handler]) -> Iterator[str]:
    """The address of a server with this handler."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextlib.contextmanager
def always(status: int, body: bytes | Callable[[str], bytes]) -> Iterator[str]:
    """A server that answers everything so; body may be made from the request's headers."""

    class Always(Handler):
        def always(self) -> None:
            self.body()
            told = body if isinstance(body, bytes) else body(str(self.headers))
            self.answer(status, told, Content_Type="application/xml" if told.startswith(b"<Error") else "text/html")

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = always

    with serving(Always) as address:
        yield address


@dataclass
class Cutter:
    """A line to a server. The next `cuts` answers to requests that hold `only` end after `after` bytes."""

    port: int
    url: str = ""
    after: int = 0
    cuts: int = 0
    only: bytes = b""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def carry(self, client: socket.socket) -> None:
        """Carry bytes both ways until one side has enough."""
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self.port)) as server:
            request = client.recv(1 << 16)
            server.sendall(request)
            threading.Thread(target=_pour, args=(client, server), daemon=True).start()
            _pour(server, client, self._limit(request))

    def _limit(self, request: bytes) -> int | None:
        with self._lock:
            if self.cuts and self.only in request:
                self.cuts -= 1
                return self.after
        return None


@contextlib.contextmanager
def cutting(port: int) -> Iterator[Cutter]:
    """A line to the server on that port, which carries everything until it is told to cut."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cutter = Cutter(port, f"http://127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=_accept, args=(listener, cutter), daemon=True).start()
        yield cutter
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, cutter: Cutter) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=cutter.carry, args=(client,), daemon=True).start()


def _pour(source: socket.socket, sink: socket.socket, limit: int | None = None) -> None:
    """Until the source ends or the limit is reached; then neither gets anything more."""
    with contextlib.suppress(OSError):
        while limit is None or limit > 0:
            data = source.recv(1 << 16 if limit is None else limit)
            if not data:
                break
            sink.sendall(data)
            limit = None if limit is None else limit - len(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
