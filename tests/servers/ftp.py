"""A real FTP server, pyftpdlib, in a process of its own: with and without TLS."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.servers import program
from tests.servers.tls import Authority

PERSON = ("keeper", "ftp-password-16180")
_TRIES = 3
# argv: port, directory, name, password, then certificate and key for TLS
_SERVER = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
port, folder, name, password, *tls = sys.argv[1:]
handler = FTPHandler
if tls:
    from pyftpdlib.handlers import TLS_FTPHandler as handler
    handler.certfile, handler.keyfile = tls
    handler.tls_control_required = handler.tls_data_required = True
handler.authorizer = DummyAuthorizer()
handler.authorizer.add_user(name, password, folder, perm="elradfmwMT")
FTPServer(("127.0.0.1", int(port)), handler).serve_forever()
"""


@dataclass(frozen=True)
class FtpServer:
    """Where it listens, the directory it shows, and who signed its certificate."""

    port: int
    tls_port: int
    folder: Path
    authority: Authority

    def address(self, path: str, *, tls: bool = False) -> str:
        scheme, port = ("ftps", self.tls_port) if tls else ("ftp", self.port)
        return f"{scheme}://{PERSON[0]}@127.0.0.1:{port}/{path}"


@cache
def started() -> FtpServer:
    """The server of this process, started when it is first asked for and ended with the tests."""
    home = Path(tempfile.mkdtemp(prefix="aihub-ftp-"))
    program.after(lambda: shutil.rmtree(home, ignore_errors=True))
    folder, authority = home / "files", Authority(home)
    folder.mkdir()
    plain = _listening(home, folder)
    secure = _listening(home, folder, str(authority.certificate), str(authority.key))
    return FtpServer(plain, secure, folder, authority)


def _listening(home: Path, folder: Path, *tls: str) -> int:
    for _ in range(_TRIES):
        port = program.free_port()
        with suppress(RuntimeError):  # somebody took the port meanwhile
            command = [sys.executable, "-c", _SERVER, str(port), str(folder), *PERSON, *tls]
            program.start(command, home / f"{port}.log", lambda port=port: _answers(port))  # type: ignore[misc]  # this round's
            return port
    raise RuntimeError("The FTP server could not be started.")


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        return connection.recv(3) == b"220"
    return False
