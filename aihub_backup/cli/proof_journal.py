"""What has been proved so far: one line of JSON for each finished case."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Journal:
    """A file of lines; the last line of a case counts. A line cut off by a crash is no line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[tuple[str, int], Line] = {(line["proof"], line["case"]): line for line in _read(path)}
        self._commit = _commit()

    def passed(self, proof: str, case: int) -> bool:
        """Did this case run, and well?"""
        return bool(self._lines.get((proof, case), {}).get("ok"))

    def lines(self, proof: str) -> list[Line]:
        """The finished cases of a proof, by number."""
        return [self._lines[key] for key in sorted(self._lines) if key[0] == proof]

    def clear(self) -> None:
        """Forget everything."""
        self._lines.clear()
        self.path.unlink(missing_ok=True)

    def record(self, proof: str, case: int, run: Callable[[Path], dict[str, float] | None]) -> Line:
        """Run one case in a directory of its own and write down how it went. An interrupted case leaves no line."""
        begin = time.monotonic()
        line: Line = {"proof": proof, "case": case, "ok": True, "error": "", "figures": {}, "commit": self._commit}
        with tempfile.TemporaryDirectory(prefix=f"aihub-proof-{proof}-") as place:
            try:
                line["figures"] = run(Path(place)) or {}
            except Exception as error:  # any failure of the thing proved is a failed case, told with its place
                where = traceback.extract_tb(error.__traceback__)[-1]
                line["figures"] = getattr(error, "figures", {})  # of a case that failed by what it measured
                line |= {"ok": False, "error": f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"}
        line["seconds"] = round(time.monotonic() - begin, 3)
        self._append(line)
        return line

    def _append(self, line: Line) -> None:
        self._lines[line["proof"], line["case"]] = line
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write("\n" + json.dumps(line) + "\n")  # a cut-off line before it stays a line of its own
            file.flush()
            os.fsync(file.fileno())


def _read(path: Path) -> list[Line]:
    found: list[Line] = []
    for text in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(text))
    return found


def _commit() -> str:
    """The short name of the commit that is being proved; empty outside a checkout."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
