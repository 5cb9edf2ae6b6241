"""One tenant's volume of an AI platform, made from a seed: the same seed, scale and numpy give the same bytes.

src/      small source, JSON and YAML files of 0.5 to 30 KB, zstd 1 ratio 3 to 4
models/   bfloat16-like weights, zstd 1 ratio about 1.3; the third file is a fine-tuned near copy of the first
logs/     append-only text, zstd 1 ratio about 6
db/       a PostgreSQL heap of 8 KiB pages with true page headers

At scale 1.0: 40,009 files of 2.0 GB = 274 MB, 990 MB, 450 MB and 300 MB.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PAGE = 8192
_STEP = 8 << 20  # bytes of weights made at once
_POOL = 60_000  # lines of each kind that files are mixed from

Rng = np.random.Generator
Ints = NDArray[np.int64]


class Size(NamedTuple):
    """What a tree holds: regular files, and the sum of their sizes in bytes."""

    files: int
    bytes: int


def generate(root: Path, scale: float = 1.0, seed: int = 1) -> None:
    """Make the tree; root must not exist. FileExistsError when it does."""
    root.mkdir(parents=True)
    text = TextSource(np.random.default_rng(seed + 100))
    _write_sources(root / "src", text, np.random.default_rng(seed), max(50, int(40_000 * scale)))
    _write_models(root / "models", seed, int(330e6 * scale) // 4096 * 4096)
    _write_logs(root / "logs", seed, int(90e6 * scale))
    _write_heap(root / "db", text, seed, max(16, int(300e6 * scale) // PAGE))


def mutate(root: Path, seed: int = 2) -> None:
    """A day's work, in place: 1 % of the small files edited, 0.3 % renamed, 0.3 % deleted, 0.3 % added, one folder
    renamed, logs 5 % longer, 1 % of the heap's pages rewritten, 100 bytes inserted into the middle of a model."""
    rng = np.random.default_rng(seed)
    text = TextSource(np.random.default_rng(seed + 100))
    _mutate_sources(root / "src", text, rng)
    _grow_logs(root / "logs", seed)
    _rewrite_pages(root / "db" / "heap.dat", text, rng, seed)
    _insert(root / "models" / "model-0.safetensors", rng.integers(0, 256, 100, dtype=np.uint8).tobytes())


def generate_tiny(root: Path, files: int, seed: int = 1) -> None:
    """Many files of about 400 bytes, 25 in a folder; root must not exist."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    text = TextSource(np.random.default_rng(seed + 100))
    for folder in range(-(-files // 25)):
        place = root / f"{folder % 97:02d}" / f"{folder:06d}"
        place.mkdir(parents=True)
        for number in range(folder * 25, min(files, folder * 25 + 25)):
            suffix, data = text.file(rng, int(rng.integers(200, 600)), number)
            (place / f"t{number:07d}.{suffix}").write_bytes(data)


def size_of(root: Path) -> Size:
    """Regular files and bytes below root."""
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    return Size(len(paths), sum(os.lstat(path).st_size for path in paths))


# -------------------------------------------------------------------- text


class TextSource:
    """Pools of generated lines from a Zipf vocabulary; files mix them with unique tokens, so that they compress like
    code and are no copies of each other."""

    def __init__(self, rng: Rng) -> None:
        self.words = _vocabulary(rng, 6000)
        weight = 1.0 / np.arange(1, len(self.words) + 1) ** 1.05
        picks = rng.choice(len(self.words), size=(_POOL, 9), p=weight / weight.sum())
        kinds = rng.integers(0, len(_CODE), _POOL)
        indents = rng.integers(0, 5, _POOL)
        numbers = rng.integers(0, 1 << 20, _POOL)
        rows = [
            _Row([self.words[pick] for pick in picks[i]], "    " * int(indents[i]), int(numbers[i]))
            for i in range(_POOL)
        ]
        code = [_CODE[kind](row).encode() for kind, row in zip(kinds, rows, strict=True)]
        self.pools = (
            ("py", code),
            ("json", [_json_line(row).encode() for row in rows]),
            ("yaml", [_yaml_line(row).encode() for row in rows]),
        )

    def file(self, rng: Rng, size: int, number: int) -> tuple[str, bytes]:
        """A suffix and the content of the numbered file, of that many bytes."""
        suffix, pool = self.pools[int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
        picks = rng.integers(0, len(pool), max(4, size // 30 + 4))
        salts = rng.integers(0, 1 << 32, max(1, size // 400 + 1))
        lines, length = [b"# file %d\n" % number], 0
        for turn, pick in enumerate(picks):
            line = pool[pick]
            if turn % 10 == 0:
                line = line[:-1] + b" # %08x\n" % int(salts[(turn // 10) % len(salts)])
            lines.append(line)
            length += len(line)
            if length >= size:
                break
        return suffix, b"".join(lines)[:size]


class _Row(NamedTuple):
    words: list[str]
    indent: str
    number: int


def _def(r: _Row) -> str:
    return f"{r.indent}def {r.words[0]}_{r.words[1]}(self, {r.words[2]}, {r.words[3]}=None):\n"


def _call(r: _Row) -> str:
    a, b, c, d, e = r.words[:5]
    return f"{r.indent}{a} = self.{b}.{c}({d}, {e}={r.number % 997})\n"


def _if(r: _Row) -> str:
    return f"{r.indent}if {r.words[0]} is not None and {r.words[1]}.{r.words[2]} > {r.number % 4096}:\n"


def _return(r: _Row) -> str:
    a, b, c, d, e = r.words[:5]
    return f"{r.indent}return {a}[{b}:{c}] + {d}({e})\n"


def _log_call(r: _Row) -> str:
    a, b, c, d = r.words[:4]
    return f'{r.indent}logger.info("{a} {b} {c} %s", {d})\n'


def _comment(r: _Row) -> str:
    return f"{r.indent}# {' '.join(r.words[:8])}\n"


def _import(r: _Row) -> str:
    return f"from {r.words[0]}.{r.words[1]} import {r.words[2]}, {r.words[3]}\n"


def _for(r: _Row) -> str:
    a, b, c, d, e = r.words[:5]
    return f"{r.indent}for {a}, {b} in enumerate({c}.{d}(key={e})):\n"


def _json_line(r: _Row) -> str:
    a, b, c, d, e, f = r.words[:6]
    number = r.number
    pair = f"[{number % 13}, {number % 101}]"
    return f'{r.indent}"{a}_{b}": {{"{c}": {number}, "{d}": "{e}-{number >> 7:x}", "{f}": {pair}}},\n'


def _yaml_line(r: _Row) -> str:
    a, b, c, d = r.words[:4]
    return f"{r.indent}{a}-{b}: {c}/{d}:{r.number % 50}.{r.number % 9}\n"


_CODE: tuple[Callable[[_Row], str], ...] = (_def, _call, _if, _return, _log_call, _comment, _import, _for)


def _vocabulary(rng: Rng, count: int) -> list[str]:
    vowels = ("a", "e", "i", "o", "u", "er", "on", "an", "st")
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in vowels]
    lengths = rng.integers(1, 5, count)
    picks = rng.integers(0, len(syllables), (count, 5))
    words = ["".join(syllables[j] for j in picks[i, : lengths[i]]) for i in range(count)]
    return [
        f"{word[: len(word) // 2]}_{word[len(word) // 2 :]}" if i % 3 == 0 and lengths[i] > 2 else word
        for i, word in enumerate(words)
    ]


# -------------------------------------------------------------------- making


def _file_sizes(rng: Rng, count: int) -> Ints:
    return np.clip(rng.lognormal(8.45, 0.95, count), 500, 30_000).astype(np.int64)  # median 4.7 KB


def _write_sources(root: Path, text: TextSource, rng: Rng, files: int) -> None:
    sizes = _file_sizes(rng, files)
    folders = [root / f"proj{i % 37:02d}" / f"pkg{i % 311:03d}" / f"mod{i:04d}" for i in range(max(4, files // 25))]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    places = rng.integers(0, len(folders), files)
    for number in range(files):
        suffix, data = text.file(rng, int(sizes[number]), number)
        (folders[places[number]] / f"f{number:06d}.{suffix}").write_bytes(data)


def _write_models(root: Path, seed: int, size: int) -> None:
    root.mkdir()
    paths = [root / f"model-{number}.safetensors" for number in range(3)]
    _write_weights(np.random.default_rng(seed + 200), size, paths[0])
    _write_weights(np.random.default_rng(seed + 201), size, paths[1])
    _fine_tune(np.random.default_rng(seed + 202), size, paths[0], paths[2])


def weights(rng: Rng, size: int) -> bytes:
    """bfloat16 words of N(0, 0.02): the high byte of low entropy, the low byte random."""
    values = rng.standard_normal(size // 2, dtype=np.float32) * np.float32(0.02)
    return (values.view(np.uint32) >> 16).astype("<u2").tobytes()


def _header(path: Path) -> bytes:
    header = b'{"__metadata__":{"format":"pt","file":"%s"}}' % path.name.encode()
    return len(header).to_bytes(8, "little") + header


def _write_weights(rng: Rng, size: int, path: Path) -> None:
    with path.open("wb") as file:
        file.write(_header(path))
        for start in range(0, size, _STEP):
            file.write(weights(rng, min(_STEP, size - start)))


def _fine_tune(rng: Rng, size: int, base: Path, path: Path) -> None:
    """A copy of base in which about every sixth stretch of 8 MiB is new."""
    with base.open("rb") as old, path.open("wb") as new:
        old.read(int.from_bytes(old.read(8), "little"))
        new.write(_header(path))
        for start in range(0, size, _STEP):
            length = min(_STEP, size - start)
            kept = old.read(length)
            new.write(kept if rng.random() > 0.16 else weights(rng, length))


def _write_logs(root: Path, seed: int, size: int) -> None:
    root.mkdir()
    for number in range(5):
        with (root / f"app-{number}.log").open("wb") as file:
            for block in log_blocks(np.random.default_rng(seed + 300 + number), size, number * 1_000_003):
                file.write(block)


_LEVELS = (b"INFO", b"INFO", b"INFO", b"INFO", b"WARN", b"DEBUG", b"ERROR")
_PATHS = (
    b"/v1/chat/completions",
    b"/v1/embeddings",
    b"/health",
    b"/v1/models",
    b"/api/train/step",
    b"/api/jobs",
)
_EVENTS = (
    b"request completed",
    b"queue depth",
    b"gpu memory allocated",
    b"checkpoint saved",
    b"cache hit",
    b"retrying upstream",
)


def log_blocks(rng: Rng, size: int, clock: int) -> Iterator[bytes]:
    """Blocks of whole lines, about size bytes together; clock in milliseconds."""
    done = 0
    while done < size:
        draws = rng.integers(0, 1 << 30, (20_000, 4))
        ticks = clock + np.cumsum(draws[:, 0] % 40)
        clock = int(ticks[-1])
        block = b"".join(map(_log_line, ticks.tolist(), draws.tolist()))
        if done + len(block) > size:
            block = block[: size - done]
            yield block[: block.rfind(b"\n") + 1] or block
            return
        done += len(block)
        yield block


def _log_line(ms: int, draw: list[int]) -> bytes:
    a, b, c, d = draw
    day, hour, minute, second = 1 + ms // 86_400_000 % 28, ms // 3_600_000 % 24, ms // 60_000 % 60, ms // 1000 % 60
    when = b"2026-03-%02dT%02d:%02d:%02d.%03dZ" % (day, hour, minute, second, ms % 1000)
    what = b"%s svc=worker-%d %s path=%s" % (_LEVELS[a % 7], b % 16, _EVENTS[c % 6], _PATHS[d % 6])
    status, trace = 200 if b % 50 else 500, (a * d) & 0xFFFFFFFFFFFF
    return b"%s %s status=%d dur_ms=%d trace=%012x\n" % (when, what, status, c % 900, trace)


def _write_heap(root: Path, text: TextSource, seed: int, pages: int) -> None:
    root.mkdir()
    rng = np.random.default_rng(seed + 400)
    words = [word.encode() for word in text.words]
    with (root / "heap.dat").open("wb") as file:
        for first in range(0, pages, 1024):
            file.write(heap_pages(rng, first, min(1024, pages - first), words))


def heap_pages(rng: Rng, first: int, count: int, words: list[bytes]) -> bytes:
    draws = rng.integers(0, 1 << 62, (count, 60), dtype=np.int64)
    picks = rng.integers(0, len(words), (count, 60, 4))
    fill = rng.integers(30, 58, count)
    return b"".join(
        _heap_page(first + page, draws[page], picks[page][: int(fill[page])], words) for page in range(count)
    )


def _heap_page(number: int, draws: Ints, picks: Ints, words: list[bytes]) -> bytes:
    """Header, line pointers growing up, tuples growing down, zeros between."""
    page, low, pointers = bytearray(PAGE), PAGE, []
    for row, (draw, pick) in enumerate(zip(draws.tolist(), picks.tolist(), strict=False)):
        record = _heap_tuple(number * 64 + row, draw, [words[i] for i in pick])
        if low - len(record) < 24 + 4 * (row + 2):
            break
        low -= len(record)
        page[low : low + len(record)] = record
        pointers.append(low | (len(record) << 17))
    end = 24 + 4 * len(pointers)
    # pd_lsn (8 bytes); pd_checksum, pd_flags; pd_lower, pd_upper; pd_special, pd_pagesize_version; pd_prune_xid
    header = (number & 0xFFFFFFFF, int(draws[0]) & 0xFFFFFFFF, 0, end | (low << 16), PAGE | ((PAGE | 4) << 16), 0)
    page[:end] = np.array([*header, *pointers], "<u4").tobytes()
    return bytes(page)


def _heap_tuple(row: int, draw: int, words: list[bytes]) -> bytes:
    name, label, detail, mail = words
    text = b"%s|%s %s|%s@example.org|%d" % (name, label, detail, mail, row)
    tail = b"|%.6f|2026-0%d-1%d" % (draw % 100_000 / 977.0, 1 + draw % 9, draw % 10)
    record = draw.to_bytes(8, "little") + bytes(4) + text + tail
    return record + b"\x00" * (-len(record) % 8)


# -------------------------------------------------------------------- changing


def _mutate_sources(root: Path, text: TextSource, rng: Rng) -> None:
    files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
    edited, share = max(1, len(files) // 100), max(1, len(files) * 3 // 1000)
    order = [files[i] for i in rng.permutation(len(files))]
    numbers = {path: i for i, path in enumerate(files)}
    for path in order[:edited]:
        _edit(Path(path), numbers[path], rng)
    for path in order[edited : edited + share]:
        os.rename(path, f"{path}.renamed")
    for path in order[edited + share : edited + 2 * share]:
        os.unlink(path)
    for turn, path in enumerate(order[edited + 2 * share : edited + 3 * share]):
        suffix, data = text.file(rng, int(_file_sizes(rng, 1)[0]), 10_000_000 + turn)
        Path(path).with_name(f"new{turn:05d}.{suffix}").write_bytes(data)
    folders = sorted({os.path.dirname(path) for path in files})
    folder = folders[int(rng.integers(0, len(folders)))]
    os.rename(folder, f"{folder}-moved")


def _edit(path: Path, number: int, rng: Rng) -> None:
    data = bytearray(path.read_bytes())
    place = int(rng.integers(0, max(1, len(data) - 20)))
    data[place : place + int(rng.integers(0, 20))] = b"edited_%06d = True\n" % number
    path.write_bytes(data)


def _grow_logs(root: Path, seed: int) -> None:
    for number, path in enumerate(sorted(root.iterdir())):
        more = path.stat().st_size // 20
        with path.open("ab") as file:
            for block in log_blocks(np.random.default_rng(seed + 300 + number), more, 10**9):
                file.write(block)


def _rewrite_pages(path: Path, text: TextSource, rng: Rng, seed: int) -> None:
    pages = path.stat().st_size // PAGE
    chosen = np.sort(rng.choice(pages, max(1, pages // 100), replace=False)).tolist()
    words = [word.encode() for word in text.words]
    data = heap_pages(np.random.default_rng(seed + 400), 0, len(chosen), words)
    with path.open("r+b") as file:
        for turn, page in enumerate(chosen):
            file.seek(page * PAGE)
            file.write(data[turn * PAGE : (turn + 1) * PAGE])


def _insert(path: Path, data: bytes) -> None:
    """Insert in the middle; what follows is shifted."""
    with path.open("r+b") as file:
        middle = path.stat().st_size // 2
        file.seek(middle)
        tail = file.read()
        file.seek(middle)
        file.write(data + tail)
