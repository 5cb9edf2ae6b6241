"""A console as in production loses its broker and cache in the middle of a backup, and gets them back empty."""

from __future__ import annotations

import base64
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from random import Random
from urllib.parse import quote

from aihub_backup.cli import client as api
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.stack import Console
from tests.proofs.workshop import eventually, remove, roomy
from tests.servers import postgresql, valkey

DATA = 96 << 20  # bytes of the source, random: a backup of them takes some seconds
AWAY = 15.0  # seconds for which the broker is away at least
ANSWERS_WITHIN = 25.0  # seconds a page may take without a cache and a broker
DONE_WITHIN = 240.0  # seconds until work is done, or is begun again
PAGES = ("/healthz", "/accounts/login/", "/admin/login/")
LISTS = ("/list", "/schedule/list", "/sources")


@proof(
    "console", "without-valkey",
    "on PostgreSQL and Valkey: the broker goes away during a backup; pages answer, work ends, all goes on afterwards",
    count=3,
)  # fmt: skip
def without_valkey(case: Case) -> Figures:
    room = roomy(4 * DATA, case.place)
    try:
        return WithoutValkey(case.place, room, case.random).prove()
    finally:
        remove(room)


def production(broker: valkey.ValkeyServer) -> dict[str, str]:
    """The settings of a console in production, with a database of its own."""
    server = postgresql.started(18)
    person = f"{quote(postgresql.OWNER)}:{quote(postgresql.PASSWORD, safe='')}"
    return {
        "AIHUB_DATABASE_URL": f"postgres://{person}@127.0.0.1:{server.port}/{server.database()}",
        "AIHUB_BROKER_URL": broker.url(0), "AIHUB_CACHE_URL": broker.url(1), "AIHUB_MODE": "production",
        "AIHUB_SECRET_KEY": "a secret that somebody was given to keep for this console, and nobody else",
        "AIHUB_APP_KEYS": f"k1:{base64.b64encode(b'k' * 32).decode()}", "AIHUB_NODE": "production-node",
        "AIHUB_TOOL_DIRS": f"/usr:{server.bin_dir}",
    }  # fmt: skip


class WithoutValkey:
    """One console, two backups: the broker goes away during the first, the second is asked for while it is away."""

    def __init__(self, place: Path, room: Path, numbers: Random) -> None:
        self.place, self.room, self.random = place, room, numbers
        self.slowest = 0.0

    def prove(self) -> Figures:
        broker = valkey.start()
        with Console(self.place / "console", production(broker)) as self.console:
            self._set_up()
            running = self._running()
            broker.stop()
            begun = time.monotonic()
            away = self._while_it_is_away(running)
            broker = broker.again()
            back = time.monotonic()
            self._ended(away)
            recovered = time.monotonic() - back
            self._usual()
            away_for = back - begun
        broker.stop()
        return {
            "away, s": round(away_for, 1), "slowest answer meanwhile, s": round(self.slowest, 2),
            "waiting work done after its return, s": round(recovered, 1),
        }  # fmt: skip

    # the scene

    def _set_up(self) -> None:
        client, data = self.console.client, self.room / "data"
        data.mkdir()
        for number in range(12):
            (data / f"{number:02}").write_bytes(self.random.randbytes(DATA // 12))
        client.add_storage("disk", "local", {"path": str(self.room / "disk")})
        kit = client.add_repository("main", "disk")
        client.prove_kit(api.identifier(kit), api.recovery_code(kit))
        client.add_source("data", "files", {"paths": [str(data)]})

    def _running(self) -> str:
        """A backup that a worker has begun."""
        backup = api.identifier(self.console.client.back_up("full", ["data"]))
        eventually(lambda: self.console.client.backup(backup)["status"] != "queued", DONE_WITHIN, "a worker begins")
        return backup

    # the story

    def _while_it_is_away(self, running: str) -> str:
        """Pages answer, the work that had begun ends well, and another backup is accepted; its id."""
        begun = time.monotonic()
        self._answers()
        self._ended(running)
        other = api.identifier(self.console.client.back_up("incremental", ["data"]))
        self._answers()
        time.sleep(max(0.0, AWAY - (time.monotonic() - begun)))
        state = self.console.client.backup(other)["status"]
        assert state == "queued", f"without a broker, a backup that was asked for is {state}"
        return other

    def _answers(self) -> None:
        for path in PAGES:
            self._timed(self._page, path)
        for path in LISTS:
            self._timed(self.console.client.get, path)

    def _timed(self, ask: Callable[[str], object], path: str) -> None:
        begun = time.monotonic()
        ask(path)
        took = time.monotonic() - begun
        self.slowest = max(self.slowest, took)
        assert took < ANSWERS_WITHIN, f"{path} took {took:.0f} s to answer"

    def _page(self, path: str) -> None:
        with urllib.request.urlopen(f"{self.console.client.address}{path}", timeout=60) as answer:
            assert answer.status < 300, f"{path} answers {answer.status}"

    def _ended(self, backup: str) -> None:
        """Well, and it can be restored."""
        answer = self.console.client.finished(lambda: self.console.client.backup(backup), DONE_WITHIN)
        assert (answer["status"], answer["restorable"]) == ("completed", True), api.problem(answer)

    def _usual(self) -> None:
        """All programs run, and new work is heard of as before."""
        eventually(self.console.up_again, DONE_WITHIN, "all programs run")
        self._answers()
        self._ended(api.identifier(self.console.client.back_up("incremental", ["data"])))
