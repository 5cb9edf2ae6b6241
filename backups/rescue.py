#!/usr/bin/env python3
"""rescue.py: brings backups back from a repository of AI Hub Backup when AI Hub Backup itself is gone.

This one file is enough. It needs Python 3.9 or newer on Linux, and four packages:
    pip install cryptography zstandard msgpack blake3         (and boto3, if the repository is in S3)
It reads the repository and never writes it; docs/format.md is all it was written from. `python rescue.py --help`
"""

from __future__ import annotations

import argparse, contextlib, errno, ftplib, getpass, hashlib, hmac, json, os, re, secrets, ssl, stat, struct, sys
import unicodedata, zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple, Union
from urllib.parse import unquote, urlsplit

try:
    import msgpack
    import zstandard
    from blake3 import blake3
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
except ImportError as gone:
    sys.exit(f"rescue.py lacks a package ({gone}). Do: pip install -U cryptography zstandard msgpack blake3")

HELP = """
PLACE, where the repository is:
  /mnt/disk/backups        the directory that holds “keys”, “log”, “index” and “packs”
  ftp://USER@HOST/PATH     FTP (ftps:// with TLS); the password comes from AIHUB_FTP_PASSWORD or is asked for
  s3://BUCKET/PREFIX       S3, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; AIHUB_S3_ENDPOINT, unless it is AWS
The secret never stands on the command line. The first of these is taken: --secret-file FILE (it holds the recovery code
or the passphrase, or is the keyfile); AIHUB_RECOVERY_CODE, AIHUB_PASSPHRASE, AIHUB_KEYFILE (a path) in the environment;
else you are asked for the recovery code (of the printed recovery kit) or the passphrase.

A whole rescue:
  python rescue.py list     /mnt/disk/backups
  python rescue.py contents /mnt/disk/backups latest
  python rescue.py restore  /mnt/disk/backups latest /tmp/back                    everything
  python rescue.py restore  /mnt/disk/backups 3f2a /tmp/back etc/nginx home/ann   paths, as “contents” shows them

/etc/hosts comes back as TARGET/etc/hosts. A file gets its name when every byte of it is proved; what is damaged is told
in a sentence, and the rest comes back. As root owners (by number), devices and set-user-ID bits come back too: do that
only if nobody else had the keys. Not brought back: flags (chattr) and the times of reading and of changing attributes.
It needs 60 bytes of memory for each stored blob (0.6 GiB for 10 million), and about 250 MiB beside them.

exit codes: 0 all is well; 1 it could not work; 2 wrong words; 3 all content is there, some attributes are not;
            4 no such snapshot or path; 5 something is damaged or missing, and was named; 7 the secret is wrong"""

HEADER, TRAILER, FACTS = struct.Struct(">4sBBH16s32s"), struct.Struct(">IIIB4s"), struct.Struct(">BBI")
PACK_ROW, FRAME_ROW, PLACE = struct.Struct("<32sB3xI32sQ"), struct.Struct("<IIIIIBB2x"), struct.Struct("<32sIII")
UNIT, PART = struct.Struct("<QIH32s"), struct.Struct("<I32s")
MIB, LETTERS = 1 << 20, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MOST = 1 << 30  # no object that is read whole is longer
FORMATS = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFLNK, 4: stat.S_IFIFO, 5: stat.S_IFCHR, 6: stat.S_IFBLK}
BROKEN: tuple[type[Exception], ...] = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
BROKEN += (struct.error, zlib.error, zstandard.ZstdError)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the target is of no use any more
NEWER, OTHER_BYTES = "is of a newer format than this program knows", "does not have the bytes that its name says"


class Stop(Exception):  # a sentence, and the exit code
    pass


class Damage(Exception):
    pass


class Report:
    """Sentences on standard error, each once; the worst of them decides how the program ends."""

    def __init__(self) -> None:
        self.said, self.code = set[str](), 0

    def __call__(self, sentence: str, code: int = 5) -> None:
        if sentence not in self.said:
            print(f"rescue: {sentence}", file=sys.stderr)
        self.said.add(sentence)
        self.code = max(self.code, code)


say = Report()


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Whatever is wrong with this object becomes a sentence, and the rescue goes on."""
    try:
        yield
    except FileNotFoundError:
        say(f"{what} is missing.")
    except OSError as error:
        say(f"{what} cannot be read: {error}.")
    except Damage as damage:
        say(f"{what} {damage}.")
    except BROKEN as error:
        say(f"{what} is not written as the format says ({type(error).__name__}).")


class Folder:
    def __init__(self, top: str) -> None:
        self.top = top

    def names(self, folder: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return os.listdir(os.path.join(self.top, folder))
        return []

    def read(self, name: str, offset: int, length: int) -> bytes:
        with open(os.path.join(self.top, name), "rb") as file:
            file.seek(offset)
            return file.read(length)


class SecureFtp(ftplib.FTP_TLS):
    def ntransfercmd(self, cmd: str, rest: Any = None) -> Any:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)  # noqa: S321  the place has nothing better
        sock: Any = self.sock  # servers want the session of the control connection again
        return self.context.wrap_socket(connection, server_hostname=self.host, session=sock.session), size


class Ftp:
    def __init__(self, address: str) -> None:
        self.url = urlsplit(address)
        if self.url.password:
            raise Stop("Take the password out of the address and put it into AIHUB_FTP_PASSWORD.", 2)
        self.user, password = unquote(self.url.username or "anonymous"), os.environ.get("AIHUB_FTP_PASSWORD")
        self.password = getpass.getpass("FTP password: ") if password is None and self.url.username else password or ""
        self.connect()

    def connect(self) -> None:
        secure = self.url.scheme == "ftps"
        self.ftp = SecureFtp(context=ssl.create_default_context()) if secure else ftplib.FTP()  # noqa: S321  the same
        self.ftp.connect(self.url.hostname or "", self.url.port or 21, timeout=60)
        self.ftp.login(self.user, self.password)
        if isinstance(self.ftp, SecureFtp):
            self.ftp.prot_p()

    def ask(self, verb: Callable[[str], Any], name: str) -> Any:
        for last in (False, False, True):  # a connection that broke is made anew
            try:
                self.ftp.voidcmd("TYPE I")  # a listing switched to text
                return verb(f"{unquote(self.url.path).rstrip('/')}/{name}")
            except ftplib.all_errors as broken:
                if str(broken)[:3] in ("450", "550"):  # there is none, or nothing in it
                    raise FileNotFoundError(str(broken)) from None
                if last or isinstance(broken, ftplib.error_perm):
                    raise OSError(str(broken)) from None
                with contextlib.suppress(*ftplib.all_errors):
                    self.connect()
        return None

    def names(self, folder: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [os.path.basename(line) for line in self.ask(self.listing, folder)]
        return []

    def listing(self, path: str) -> list[str]:
        return self.ftp.nlst(path)  # by the connection of now: the one before may have broken

    def read(self, name: str, offset: int, length: int) -> bytes:
        return bytes(self.ask(lambda path: self.fetch(path, offset, length), name))

    def fetch(self, path: str, offset: int, length: int) -> bytearray:
        data = bytearray()
        with self.ftp.transfercmd(f"RETR {path}", offset or None) as connection:
            while len(data) < length and (piece := connection.recv(min(length - len(data), 1 << 18))):
                data += piece
        with contextlib.suppress(ftplib.Error):  # that we hung up before the end
            self.ftp.voidresp()
        return data


class S3:
    def __init__(self, address: str) -> None:
        try:
            import boto3
            from botocore import config, exceptions
        except ImportError:
            raise Stop("A repository in S3 needs one more package. Do: pip install boto3", 1) from None
        url, endpoint = urlsplit(address), os.environ.get("AIHUB_S3_ENDPOINT") or None
        self.bucket, self.prefix = url.netloc, url.path.strip("/") + "/" if url.path.strip("/") else ""
        settings = config.Config(s3={"addressing_style": "path"} if endpoint else {})
        region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name=region, config=settings)
        self.errors = (exceptions.ClientError, exceptions.BotoCoreError)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        try:
            yield
        except self.errors as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code")
            raise (FileNotFoundError if code in ("404", "NoSuchKey") else OSError)(str(error)) from None

    def names(self, folder: str) -> list[str]:
        start, listing = f"{self.prefix}{folder}/", self.client.get_paginator("list_objects_v2")
        with self.asking():
            pages = list(listing.paginate(Bucket=self.bucket, Prefix=start, Delimiter="/"))
        found = [item["Key"] for page in pages for item in page.get("Contents", ())]
        found += [item["Prefix"].rstrip("/") for page in pages for item in page.get("CommonPrefixes", ())]
        return [name[len(start) :] for name in found]

    def read(self, name: str, offset: int, length: int) -> bytes:
        wanted = f"bytes={offset}-{offset + length - 1}"
        with self.asking():
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name, Range=wanted)
            return bytes(answer["Body"].read())


Place = Union[Folder, Ftp, S3]


def unpack(data: bytes) -> Any:  # names are raw bytes, whatever their encoding; maps have numbers as keys
    return msgpack.unpackb(data, raw=False, strict_map_key=False, unicode_errors="surrogateescape")


def numbers_of(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 4}I", data)


def ids_of(data: bytes) -> list[bytes]:
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def canonical(document: dict[str, Any], without: str) -> bytes:
    rest = {key: value for key, value in document.items() if key != without}
    return json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()


def recovery_code(text: str) -> bytes | None:
    """The 32 bytes behind a recovery code; None if it is none, or mistyped."""
    letters = "".join(c for c in text.upper() if not c.isspace() and unicodedata.category(c) != "Pd")
    letters = letters.translate(str.maketrans("OIL", "011"))
    if len(letters) != 56 or not set(letters) <= set(LETTERS):
        return None
    data = sum(LETTERS.index(c) << 5 * at for at, c in enumerate(reversed(letters))).to_bytes(35, "big")
    return data[:32] if hashlib.sha256(b"recovery" + data[:32]).digest()[:3] == data[32:] else None


def given_bytes(path: str | None) -> tuple[str, bytes]:
    """Where the secret was found (the name of a variable, or nothing), and its bytes."""
    variables = ("AIHUB_RECOVERY_CODE", "AIHUB_PASSPHRASE", "AIHUB_KEYFILE")
    name = "" if path else next((name for name in variables if os.environ.get(name)), "")
    path = os.environ[name] if name == "AIHUB_KEYFILE" else path
    if not path and not name and not sys.stdin.isatty():
        raise Stop("there is no terminal to type a secret at: set AIHUB_RECOVERY_CODE, or use --secret-file.", 2)
    if not path:
        return name, os.fsencode(os.environ[name] if name else getpass.getpass("Recovery code or passphrase: "))
    with open(path, "rb") as file:
        return "file", file.read(MIB)


def find_secrets(path: str | None) -> list[tuple[str, bytes]]:
    """What the person gave, as all that it may be: (kind of slot, its bytes)."""
    name, data = given_bytes(path)
    text = data.decode("utf-8", "replace").rstrip("\r\n")
    code = recovery_code(text)
    if name == "AIHUB_RECOVERY_CODE" and not code:
        raise Stop("AIHUB_RECOVERY_CODE is no recovery code: compare its 56 letters with the printed kit.", 7)
    found = [("recovery", code)] if code else [("passphrase", unicodedata.normalize("NFC", text).encode())]
    return found + ([("keyfile", data)] if name == "file" else [])


def opened(key: bytes, nonce: bytes, sealed: bytes, facts: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, sealed, facts)
    except InvalidTag:
        raise Damage("is not what its key sealed") from None


def unsealed(document: dict[str, Any], what: str, key: bytes) -> bytes:
    """What a key object seals: all else that it says is authenticated with it."""
    return opened(key, bytes.fromhex(document["nonce"]), bytes.fromhex(document[what]), canonical(document, what))


def agreed(private: bytes, ephemeral: bytes) -> bytes:
    """The key of a slot whose ring key was wrapped without its secret."""
    own = X25519PrivateKey.from_private_bytes(private)
    salt = ephemeral + own.public_key().public_bytes_raw()
    shared = own.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    return HKDF(SHA256(), 32, salt, b"aihub-backup/key-slot/agreement").derive(shared)


class Way(NamedTuple):  # from a secret to key rings
    path: str
    slot: dict[str, Any]
    ring_key: bytes
    pin_key: bytes


def open_slot(path: str, slot: dict[str, Any], secret: bytes) -> Way | None:
    """None if the slot is of another secret."""
    kdf, salt = slot["kdf"], bytes.fromhex(slot["salt"])
    if kdf["name"] == "argon2id":
        passes, memory, lanes = kdf["t"], kdf["m"], kdf["p"]
        if not (1 <= passes <= 16 and 8 << 10 <= memory <= 1 << 20 and 1 <= lanes <= 16):
            raise Damage("asks for more work than a key slot may")
        secret = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(secret)
    keys = HKDF(SHA256(), 128, salt, b"aihub-backup/key-slot").derive(secret)
    if not hmac.compare_digest(keys[32:64], bytes.fromhex(slot["commitment"])):
        return None
    key = agreed(keys[64:96], bytes.fromhex(slot["ephemeral"])) if "ephemeral" in slot else keys[:32]
    return Way(path, slot, unsealed(slot, "wrapped", key), keys[96:])


def open_ring(ring: dict[str, Any], way: Way) -> dict[str, Any]:
    """What a key ring holds. Damage if its keys do not come from each other, or not from where the slot says."""
    found: dict[str, Any] = unpack(unsealed(ring, "sealed", way.ring_key))
    masters, epochs = found["masters"], sorted(found["masters"])
    root = hmac.digest(masters[epochs[0]], b"aihub-backup/key-root", "sha256")
    pin = hmac.digest(way.pin_key, root, "sha256").hex()
    if "ephemeral" in way.slot and not hmac.compare_digest(pin, way.slot["pin"]):
        raise Damage("is not the one that the key slot was made for")
    for old, new in zip(epochs, epochs[1:]) if "vouchers" in found else ():
        text = b"aihub-backup/key-epoch" + bytes.fromhex(ring["repository"]) + new.to_bytes(2, "big") + masters[new]
        if not hmac.compare_digest(hmac.digest(masters[old], text, "sha256"), found["vouchers"][new]):
            raise Damage("holds master keys that do not vouch for each other")
    return found


def expand(codec: int, data: bytes, length: int) -> bytes:
    """Raw bytes; never more of them are made than was authenticated."""
    whole = codec == 0
    if codec == 1 and zstandard.frame_content_size(data) == length:
        data, whole = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False), True
    elif codec == 2:
        unzip = zlib.decompressobj(31)
        data = unzip.decompress(data, length + 1)
        whole = unzip.eof and not unzip.unused_data
    if not whole or len(data) != length:
        raise Damage("does not unpack to its length")
    return data


class Keys:
    """The key objects, and what the secret opens."""

    def __init__(self, place: Place, given: list[tuple[str, bytes]]) -> None:
        self.paths, self.masters, self.id_key = set[str](), dict[int, bytes](), b""
        documents = list(self.documents(place))
        slots = [(path, document) for path, document in documents if document["aihub"] == "key-slot"]
        rings = [(path, document) for path, document in documents if document["aihub"] != "key-slot"]
        if not slots:
            raise Stop("There is no key slot that can be read: is this the place of a repository?", 1)
        ways = [way for kind, secret in given for way in self.ways(slots, kind, secret)]
        if not ways:
            raise wrong_secret([slot for _, slot in slots], [kind for kind, _ in given])
        self.id = bytes.fromhex(ways[0].slot["repository"])
        self.take(rings, ways)
        if not self.masters and rings and not say.code:
            raise Stop("The key slot that this secret opens is an old one: its key ring was replaced. Use another.", 7)
        if not self.masters:
            raise Stop("The secret is right, but no key ring can be read: nothing opens without one.", 5)

    def documents(self, place: Place) -> Iterator[tuple[str, dict[str, Any]]]:
        for path, name in objects(place, "keys"):
            self.paths.add(path)
            with told(path):
                data = place.read(path, 0, MOST)
                if hashlib.sha256(data).hexdigest() != name:
                    raise Damage(OTHER_BYTES)
                document = json.loads(data)
                if document["format"] > 2:
                    raise Damage(NEWER)
                if document["aihub"] == "key-slot" or document["generation"] >= 0:
                    yield path, document

    def ways(self, slots: list[tuple[str, dict[str, Any]]], kind: str, secret: bytes) -> Iterator[Way]:
        """After a change of keys that was cut off several slots open with one secret."""
        for path, slot in slots:
            with told(path):
                if slot["kind"] == kind and (way := open_slot(path, slot, secret)):
                    yield way

    def take(self, rings: list[tuple[str, dict[str, Any]]], ways: list[Way]) -> None:
        """The keys of all rings, those of the newest last: no master key is given up."""
        found = list[tuple[int, int, str, str, dict[str, Any]]]()
        for path, ring in rings:
            for way in ways:
                named = hmac.digest(way.ring_key, b"aihub-backup/key-ring", "sha256").hex()
                if ring.get("commitment", named) == named:  # else it is another ring key's
                    with told(path):
                        held = open_ring(ring, way)
                        found.append((ring["generation"], max(held["masters"]), path, way.path, held))
        self.used = {slot for _, _, _, slot, _ in found}
        for *_, held in sorted(found, key=lambda one: one[:4]):
            self.masters.update(held["masters"])
            self.id_key = held["id_key"]

    def unseal(self, header: bytes, number: int, kind: int, codec: int, raw: int, data: bytes) -> bytes:
        """A section of the object with this header."""
        _, _, type_, epoch, _, salt = HEADER.unpack(header)
        if epoch not in self.masters:
            raise Damage(f"is sealed with the key of epoch {epoch}, which the key ring does not hold")
        key = HKDFExpand(SHA256(), 32, b"aihub-backup/object" + bytes([type_]) + salt).derive(self.masters[epoch])
        return expand(codec, opened(key, number.to_bytes(12, "big"), data, header + FACTS.pack(kind, codec, raw)), raw)


def wrong_secret(slots: list[dict[str, Any]], given: list[str]) -> Stop:
    kinds = ", ".join(sorted({repr(f"{slot.get('kind')}: {slot.get('label')}") for slot in slots}))
    hurt = " A damaged key object may be the one it belongs to." if say.code else ""
    if not set(given) & {slot.get("kind") for slot in slots}:
        hurt += f" None of them is for a {given[0]} at all: if there was one, it is missing here."
    return Stop(f"The secret is wrong: it opens none of the key slots, which are: {kinds}.{hurt}", 7)


def objects(place: Place, folder: str, pattern: str = "[0-9a-f]{64}") -> Iterator[tuple[str, str]]:
    for name in sorted(place.names(folder)):
        if re.fullmatch(pattern, name):
            yield f"{folder}/{name}", name
        elif not name.startswith("."):
            say(f"{folder}/{name!r} is no object of a repository and is passed over.", 0)


class Envelope:
    """An open object: its directory is proved now, each section when it is read."""

    def __init__(self, keys: Keys, types: tuple[int, ...], data: bytes) -> None:
        self.keys, self.header, self.data = keys, data[:56], data
        magic, form, type_, _, owner, _ = HEADER.unpack(self.header)
        number, stored, raw, codec, end = TRAILER.unpack(data[-17:])
        if (magic, owner) == (b"AIHB", keys.id) and form > 1:
            raise Damage(NEWER)
        if (magic, form, owner, end) != (b"AIHB", 1, keys.id, b"BHIA") or type_ not in types or raw > 1 << 28:
            raise Damage("is no such object of this repository")
        start = len(data) - 17 - stored
        self.directory = unpack(keys.unseal(self.header, number, 2, codec, raw, data[start:-17]))
        self.rows, at = list[tuple[int, int, int, int, int]](), 56
        for kind, length, codec, raw in self.directory["sections"]:
            self.rows.append((at, length, raw, codec, kind))
            at += length
        counted = self.directory["final"] is True and self.directory["count"] == number == len(self.rows)
        if not counted or at != start:
            raise Damage("has a directory that does not fit it")

    def section(self, number: int, kind: int) -> bytes:
        at, stored, raw, codec, _ = self.rows[number]  # one of another kind does not open
        return self.keys.unseal(self.header, number, kind, codec, raw, self.data[at : at + stored])


def pack_path(digest: bytes) -> str:
    return f"packs/{digest.hex()[:2]}/{digest.hex()}"


class Repository:
    def __init__(self, address: str, given: list[tuple[str, bytes]]) -> None:
        kinds: dict[str, Any] = {"ftp": Ftp, "ftps": Ftp, "s3": S3}
        self.place: Place = kinds.get(urlsplit(address).scheme, Folder)(address)
        self.buckets = [bytearray() for _ in range(1 << 16)]  # by the first two bytes of a blob's id: rows of PLACE
        self.frames, self.packs = bytearray(), list[tuple[bytes, int, bytes]]()  # (SHA-256, size, header)
        self.kept, self.proved = OrderedDict[Any, bytes](), set[bytes]()
        self.keys = Keys(self.place, given)
        self.read_log()

    def whole(self, path: str, digest: str, most: int = MOST) -> bytes:
        """All of an object. Other bytes than its name says are told of; what of them is true is proved by its seals."""
        data = self.place.read(path, 0, most)
        if not hashlib.sha256(data).hexdigest().startswith(digest):
            say(f"{path} {OTHER_BYTES}.")
        return data

    def read_log(self) -> None:
        """All of it: a rescue does not believe that what lies below a checkpoint is told by it."""
        live, gone, seen, named = dict[str, dict[str, Any]](), set[str](), set[str](), dict[str, str]()
        keys, removed, self.replaced, config = dict[str, str](), set[str](), set[str](), b""
        for folder, _ in objects(self.place, "log", "[0-9]{9}"):
            for path, name in objects(self.place, folder, "[0-9]{12}-[0-9a-f]{32}"):
                seen.add(path)
                with told(path):
                    record = self.one_record(path, name)
                    body, kind = record["body"], record["kind"]
                    named.update(dict.fromkeys(record["parents"], path))
                    told_of = [body] if kind == "snapshot" else body["live"] if kind == "checkpoint" else []
                    for snapshot in told_of:
                        live.setdefault(snapshot["id"], snapshot)
                    self.replaced.update(body.get("index", ()) if kind == "sweep" else ())
                    gone.update(body.get("forget", ()) if kind == "forget" else body.get("forgotten", ()))
                    keys.update(dict.fromkeys(body.get("keys", ()), path))
                    removed.update(body.get("removed", ()))
                    config = body["config"] if kind == "checkpoint" else config
        if self.keys.used <= removed:
            raise Stop("The key slot that this secret opens was removed from the repository: use another secret.", 7)
        named.update({name: path for name, path in keys.items() if name not in removed})
        self.live = {id_: snapshot for id_, snapshot in live.items() if id_ not in gone}
        for path in sorted(named.keys() - seen - self.keys.paths):
            say(f"{path} is missing ({named[path]} names it).")
        with told("config"):
            if config and self.place.read("config", 0, MIB) != config:
                raise Damage("is not what the log repeats of it; nothing is lost by that")

    def one_record(self, path: str, name: str) -> Any:
        record = unpack(Envelope(self.keys, (4,), self.whole(path, name[13:])).section(0, 5))
        if record["seq"] != int(name[:12]) or record["seq"] // 1000 != int(path[4:13]):
            raise Damage("is not the record that its name says")
        return record

    def read_index(self) -> None:
        wanted = {path for snapshot in self.live.values() for path in snapshot["index"]} - self.replaced
        for path, name in objects(self.place, "index"):
            wanted.discard(path)
            with told(path):
                self.one_index(Envelope(self.keys, (3,), self.whole(path, name)))
        known, untold = {digest for digest, _, _ in self.packs}, False
        for folder, _ in objects(self.place, "packs", "[0-9a-f]{2}"):
            for path, name in objects(self.place, folder):
                if bytes.fromhex(name) not in known:  # its index is damaged or gone, or it was never committed
                    untold = True
                    with told(path):
                        self.one_pack(bytes.fromhex(name), self.whole(path, name))
        for path in sorted(wanted) if untold else ():  # else a repair wrote anew what it told, under another name
            say(f"{path} is missing; nothing is lost by that, its packs are read instead.")

    def one_index(self, index: Envelope) -> None:
        sections = [unpack(index.section(number, 4)) for number in range(1, len(index.rows))]
        packs, frames = unpack(index.section(0, 3))
        first_pack, first_frame = len(self.packs), len(self.frames) // FRAME_ROW.size
        for digest, type_, epoch, salt, size in PACK_ROW.iter_unpack(packs):
            self.packs.append((digest, size, HEADER.pack(b"AIHB", 1, type_, epoch, self.keys.id, salt)))
        for pack, *rest in FRAME_ROW.iter_unpack(frames):
            self.frames += FRAME_ROW.pack(first_pack + pack, *rest)
        for ids, *numbers in sections:
            for id_, frame, start, length in zip(ids_of(ids), *map(numbers_of, numbers)):
                self.add(id_, first_frame + frame, start, length)

    def one_pack(self, digest: bytes, data: bytes) -> None:
        pack = Envelope(self.keys, (1, 2), data)
        for number, (ids, lengths) in enumerate(pack.directory["blobs"]):
            frame, start = len(self.frames) // FRAME_ROW.size, 0
            self.frames += FRAME_ROW.pack(len(self.packs), number, *pack.rows[number])
            for id_, length in zip(ids_of(ids), numbers_of(lengths)):
                self.add(id_, frame, start, length)
                start += length
        self.packs.append((digest, len(data), pack.header))

    def add(self, id_: bytes, frame: int, start: int, length: int) -> None:
        self.buckets[id_[0] << 8 | id_[1]] += PLACE.pack(id_, frame, start, length)

    def blob(self, id_: bytes) -> bytes:
        bucket, at = self.buckets[id_[0] << 8 | id_[1]], -1
        while (at := bucket.find(id_, at + 1)) >= 0:
            if at % PLACE.size == 0:
                _, frame, start, length = PLACE.unpack_from(bucket, at)
                row = FRAME_ROW.unpack_from(self.frames, frame * FRAME_ROW.size)
                with told(pack_path(self.packs[row[0]][0])):
                    data = self.frame(frame, row)[start : start + length]
                    if len(data) == length and blake3(data, key=self.keys.id_key).digest() == id_:
                        return data
                    raise Damage(f"holds something else as the blob {id_.hex()}")
        raise Damage(f"needs the blob {id_.hex()}, which is nowhere whole")

    def frame(self, frame: int, row: tuple[int, ...]) -> bytes:
        if frame not in self.kept:
            pack, number, at, stored, raw, codec, kind = row
            digest, size, header = self.packs[pack]
            data = self.stretch(digest, size, at, stored)
            if raw > 16 * MIB or kind != 1:
                raise Damage("has a frame that none may be")
            self.keep(frame, self.keys.unseal(header, number, kind, codec, raw, data))
        return self.kept[frame]

    def stretch(self, digest: bytes, size: int, at: int, length: int) -> bytes:
        """Bytes of a pack. The first time it is read whole, to prove its name, and kept for a while."""
        name = pack_path(digest)
        if digest not in self.proved:
            self.proved.add(digest)
            self.keep(digest, self.whole(name, digest.hex(), size + 1))
        whole = self.kept.get(digest)
        return whole[at : at + length] if whole else self.place.read(name, at, length)

    def keep(self, key: Any, data: bytes) -> None:
        self.kept[key] = data
        while len(self.kept) > 1 and sum(map(len, self.kept.values())) > 96 * MIB:
            self.kept.popitem(last=False)

    def entries(self, snapshot: dict[str, Any]) -> Iterator[Entry]:
        manifest, lost = hashlib.sha256(), say.code
        for raw, page in self.pages(snapshot["root"], b"", snapshot["entries"], None):
            manifest.update(raw)
            with told(f"A page of the snapshot {snapshot['id']}"):
                _, directories, users, groups, rows = page
                yield from [Entry.of(row, directories, users, groups) for row in rows]
        if manifest.hexdigest() != snapshot["manifest_sha256"].hex() and say.code == lost:
            say(f"The list of the snapshot {snapshot['id']} is not the one that was written.")

    def pages(self, id_: bytes, first: bytes, entries: int, level: int | None) -> Iterator[tuple[bytes, Any]]:
        page = None
        with told(f"The part of the list with {entries} entries from {shown(first)} on"):
            page = unpack(raw := self.blob(id_))
            if level not in (None, page[0]):
                page = None
                raise Damage("is of another level than its parent says")
        if page and page[0] == 0:
            yield raw, page
        for path, child, count, _ in page[1] if page and page[0] else ():
            yield from self.pages(child, path, count, page[0] - 1)

    def stretches(self, entry: Entry) -> Iterator[tuple[int, int, bytes, list[tuple[int, bytes]]]]:
        """Content as (offset, length, SHA-256, [(length, blob id), …]); what lies between is a hole."""
        content, rest = entry.content or b"", b""
        if isinstance(content, bytes) and len(content) == 64:
            yield 0, entry.size, content[32:], [(entry.size, content[:32])]
            return
        for page in [content] if isinstance(content, bytes) else map(self.blob, content):
            rest += page
            while len(rest) >= UNIT.size:
                offset, length, count, proof = UNIT.unpack_from(rest)
                end = UNIT.size + count * PART.size
                if len(rest) < end:
                    break
                yield offset, length, proof, list(PART.iter_unpack(rest[UNIT.size : end]))
                rest = rest[end:]
        if rest:
            raise Damage("has a list of content that is cut off")


class Entry(NamedTuple):
    path: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    mtime: int
    inode: tuple[int, int] | None
    size: int
    content: Any
    more: dict[str, Any]
    owners: str

    @classmethod
    def of(cls, row: list[Any], directories: list[bytes], users: dict[int, str], groups: dict[int, str]) -> Entry:
        folder, name, kind, mode, uid, gid, mtime, _, device, inode, nlink, size, _, content, more = row[:15]
        path = directories[folder] + b"/" + name if directories[folder] else name
        same = (device, inode) if nlink > 1 and kind != 2 else None
        owners = printable(f"{users.get(uid, uid)} {groups.get(gid, gid)}")
        return cls(path, kind, mode & 0o7777, uid, gid, mtime, same, size, content, more or {}, owners)


class Restorer:
    """Writes entries below a directory, in the order of the list. It stands in one of them and never follows a link."""

    def __init__(self, repository: Repository, target: str) -> None:
        os.makedirs(target, 0o700, exist_ok=True)
        if os.listdir(target):
            raise Stop(f"{target} is not empty: name an empty directory, or one that does not exist yet.", 2)
        self.repository, self.root, self.above = repository, os.geteuid() == 0, list[tuple[bytes, Any]]()
        self.top = os.open(target, os.O_RDONLY)
        self.here = os.dup(self.top)
        self.links, self.files, self.bytes = dict[Any, bytes](), 0, 0

    def restore(self, entry: Entry) -> None:
        *folder, name = entry.path.split(b"/")
        try:
            if any(part in (b"", b".", b"..") or b"\0" in part for part in (*folder, name)):
                raise Damage("has a path that no file can have")
            self.go(folder)
            if entry.kind == 2:
                self.enter(name, entry)
            elif not self.link(entry, name):
                self.file(entry, name) if entry.kind == 1 else self.special(entry, name)
                self.links.update({entry.inode: entry.path} if entry.inode else {})
        except Damage as damage:
            say(f"{shown(entry.path)} {damage}; it was not restored.")
        except OSError as error:
            self.stop_if_full(error)
            say(f"{shown(entry.path)} could not be made: {error.strerror}.", 3 if entry.kind in (5, 6) else 5)
        except BROKEN as error:
            say(f"{shown(entry.path)} is not listed as the format says ({type(error).__name__}); it was not restored.")

    def stop_if_full(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in FULL:
            raise Stop(f"The target cannot be written any more: {error.strerror}. What is there is whole.", 1)

    def go(self, folder: list[bytes]) -> None:
        while [name for name, _ in self.above] != folder[: len(self.above)]:
            self.leave()
        for name in folder[len(self.above) :]:
            self.enter(name, None)  # its own entry was in a part of the list that is lost

    def enter(self, name: bytes, entry: Entry | None) -> None:
        os.mkdir(name, 0o700, dir_fd=self.here)
        inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.here)
        os.close(self.here)
        self.here = inside
        self.above.append((name, entry))

    def leave(self) -> None:
        """A directory is dressed last: it may be closed to us, and its time changes with what comes into it."""
        _, entry = self.above.pop()
        parent = os.open("..", os.O_RDONLY, dir_fd=self.here)
        if entry:
            self.dress(entry, self.here)
        os.close(self.here)
        self.here = parent

    def link(self, entry: Entry, name: bytes) -> bool:
        first = self.links.get(entry.inode) if entry.inode else None
        if first is None:
            return False
        try:
            os.link(first, name, src_dir_fd=self.top, dst_dir_fd=self.here, follow_symlinks=False)
        except OSError as error:
            say(f"{shown(entry.path)} is a file of its own now instead of a link: {error.strerror}.", 3)
            return False
        return True

    def file(self, entry: Entry, name: bytes) -> None:
        part = f".rescue-{secrets.token_hex(8)}"
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self.here)
        try:
            self.fill(entry, fd)
            self.dress(entry, fd)
            with contextlib.suppress(FileNotFoundError):
                os.stat(name, dir_fd=self.here, follow_symlinks=False)
                raise Damage("is listed twice")
            os.rename(part, name, src_dir_fd=self.here, dst_dir_fd=self.here)
        except BaseException:
            os.unlink(part, dir_fd=self.here)
            raise
        finally:
            os.close(fd)
        self.files, self.bytes = self.files + 1, self.bytes + entry.size

    def fill(self, entry: Entry, fd: int) -> None:
        os.truncate(fd, entry.size)
        end = 0
        for offset, length, proof, parts in self.repository.stretches(entry):
            digest, at = hashlib.sha256(), offset
            for size, id_ in parts:
                data = self.repository.blob(id_)
                digest.update(data)
                at += os.pwrite(fd, data, at) if len(data) == size else 0
            if offset < end or offset + length > entry.size or at != offset + length or digest.digest() != proof:
                raise Damage("does not have the content that was written")
            end = at
        if "sha256" in entry.more and proof_of(fd) != entry.more["sha256"]:
            raise Damage("does not have the SHA-256 that was written")

    def special(self, entry: Entry, name: bytes) -> None:
        if entry.kind == 3:
            os.symlink(entry.more["target"], name, dir_fd=self.here)
        elif entry.kind in (4, 5, 6):
            os.mknod(name, FORMATS[entry.kind] | 0o600, entry.more.get("rdev", 0), dir_fd=self.here)
        else:
            raise Damage(f"is of the kind {entry.kind}, which this program does not know")
        self.dress(entry, name)

    def dress(self, entry: Entry, place: int | bytes) -> None:
        """Owner, attributes, mode, time: in this order, because each may take something from the one before it."""
        by_name: dict[str, Any] = {} if isinstance(place, int) else {"dir_fd": self.here, "follow_symlinks": False}
        path: Any = place if isinstance(place, int) else b"/proc/self/fd/%d/%s" % (self.here, place)
        if self.root:
            self.set(entry, "owner", os.chown, place, entry.uid, entry.gid, **by_name)
        for name, value in entry.more.get("xattrs") or ():
            self.set(entry, shown(name)[1:], os.setxattr, path, name, value, follow_symlinks=isinstance(place, int))
        if entry.kind != 3:
            self.set(entry, "mode", os.chmod, path, entry.mode if self.root else entry.mode & 0o1777)
        self.set(entry, "time", os.utime, place, ns=(entry.mtime, entry.mtime), **by_name)

    def set(self, entry: Entry, what: str, deed: Callable[..., Any], *words: Any, **more: Any) -> None:
        try:
            deed(*words, **more)
        except (OSError, OverflowError) as error:
            self.stop_if_full(error)
            say(f"{shown(entry.path)} came back without its {what}: {getattr(error, 'strerror', error)}.", 3)


def proof_of(fd: int) -> bytes:
    digest, at = hashlib.sha256(), 0
    while data := os.pread(fd, MIB, at):
        digest.update(data)
        at += len(data)
    return digest.digest()


def printable(text: str) -> str:
    """What a terminal can show: every other byte as \\x and two digits."""
    text = text.replace("\\", "\\\\")
    return "".join(c if c.isprintable() else "".join(f"\\x{b:02x}" for b in os.fsencode(c)) for c in text)


def shown(path: bytes) -> str:
    return "/" + printable(os.fsdecode(path))


def unshown(text: str) -> bytes:
    """The path that was shown as this text."""
    parts = re.split(rb"\\(\\|x[0-9a-f]{2})", os.fsencode(text))  # what stands between escapes, and escapes, in turn
    parts[1::2] = [bytes.fromhex(part[1:].decode()) or part for part in parts[1::2]]
    return b"".join(parts).strip(b"/")


def chosen(entries: Iterable[Entry], paths: list[str]) -> Iterator[Entry]:
    """The entries of these paths, with the directories on the way to them."""
    wanted = {unshown(path): path for path in paths}
    found = set[bytes]()
    for entry in entries:
        inside = [path for path in wanted if not path or entry.path == path or entry.path.startswith(path + b"/")]
        found.update(inside)
        above = entry.kind == 2 and any(path.startswith(entry.path + b"/") for path in wanted)
        if entry.path and (not paths or inside or above):  # the root itself is where the target is
            yield entry
    for path in wanted.keys() - found:
        say(f"The snapshot holds no {wanted[path]}.", 4)


def moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return f"{seconds:.0f} s"


def one_snapshot(repository: Repository, word: str) -> dict[str, Any]:
    ids = [id_ for id_ in repository.live if id_.startswith(word)]
    if word == "latest" and repository.live:
        return max(repository.live.values(), key=lambda snapshot: float(snapshot["time"]))
    if word not in ids and len(ids) != 1:
        raise Stop(f"{len(ids)} snapshots have an id that begins with “{word}”: “list” shows the ids.", 4)
    return repository.live[word if word in ids else ids[0]]


def source_of(facts: dict[str, Any]) -> str:
    source = facts.get("source")
    name = source.get("name") if isinstance(source, dict) else None
    return printable(str(name or " ".join(map(str, facts.get("roots", ())))))


def list_snapshots(repository: Repository) -> None:
    for id_, snapshot in sorted(repository.live.items(), key=lambda item: float(item[1]["time"])):
        size = f"{snapshot['entries']:>9} entries  {snapshot['size']:>15} bytes"
        print(f"{printable(id_)}  {moment(snapshot['time'])} UTC  {size}  {source_of(snapshot['facts'])}")


def list_contents(entries: Iterable[Entry]) -> None:
    for entry in entries:
        mode = stat.filemode(FORMATS.get(entry.kind, 0) | entry.mode)
        target = f" -> {printable(os.fsdecode(entry.more['target']))}" if entry.kind == 3 else ""
        print(f"{mode} {entry.owners} {entry.size:>12} {moment(entry.mtime / 1e9)} {shown(entry.path)}{target}")


def restore(repository: Repository, entries: Iterable[Entry], target: str) -> None:
    restorer = Restorer(repository, target)
    for entry in entries:
        restorer.restore(entry)
    restorer.go([])
    print(f"{restorer.files} files with {restorer.bytes} bytes are back in {target}.")


def rescue(words: list[str] | None = None) -> None:
    usage = "rescue.py list PLACE\n       rescue.py contents PLACE SNAPSHOT [PATH …]\n"
    usage += "       rescue.py restore PLACE SNAPSHOT TARGET [PATH …]"
    form, does = argparse.RawDescriptionHelpFormatter, "Bring backups back without the program that made them."
    parser = argparse.ArgumentParser(usage=usage, description=does, epilog=HELP, formatter_class=form)
    parser.add_argument("--secret-file", metavar="FILE", help="holds the secret")
    parser.add_argument("verb", choices=("list", "contents", "restore"), help="what to do")
    parser.add_argument("place", metavar="PLACE", help="where the repository is")
    parser.add_argument("words", metavar="SNAPSHOT", nargs="*", help="its id, the beginning of it, or “latest”; then …")
    given = parser.parse_intermixed_args(words)
    least = {"list": 0, "contents": 1, "restore": 2}[given.verb]
    if len(given.words) < least or (given.verb == "list" and given.words):
        parser.error(f"“{given.verb}” does not go with these words.")
    repository = Repository(given.place, find_secrets(given.secret_file))
    if given.verb == "list":
        return list_snapshots(repository)
    snapshot = one_snapshot(repository, given.words[0])
    repository.read_index()
    entries = chosen(repository.entries(snapshot), given.words[least:])
    return list_contents(entries) if given.verb == "contents" else restore(repository, entries, given.words[1])


def main() -> int:
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may know few letters
    try:
        rescue()
        sys.stdout.flush()
    except Stop as stop:
        print(f"rescue: {stop.args[0]}", file=sys.stderr)
        return int(stop.args[1])
    except BrokenPipeError:  # whoever read the list has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (OSError, EOFError, ftplib.Error) as error:
        print(f"rescue: {error or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return say.code


if __name__ == "__main__":
    sys.exit(main())
