"""Objects in a bucket of S3, at AWS or a compatible server.

An object is one put_object with its checksum: the server publishes all of it or nothing, and no part of a
multipart upload can be left behind. What is already there is told by If-None-Match, and by a look beforehand for
names that promise nothing, because some servers ignore the header.
"""

from __future__ import annotations

import base64
import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from botocore.exceptions import ClientError, FlexibleChecksumError

from backups.engine import store
from backups.engine.disk import printable
from backups.engine.errors import (
    EngineError,
    ForeignRepository,
    ObjectDamaged,
    ObjectMissing,
    StoreRefused,
    StoreUnavailable,
)
from backups.engine.store import Capabilities, Data, ObjectInfo
from backups.engine.stores.s3_client import PARALLEL, S3Settings, connect
from backups.engine.stores.s3_errors import ERRORS, code, outcome_unknown, status, translated

# What lies directly under the prefix of a repository, and of a storage that is being tried out.
OURS = {"config", "index", "keys", "log", "packs", "probe", "quarantine"}

_TURNS = 10  # how often a name is disputed before we say so
_TAKEN, _DISPUTED = (412, 304), 409
_PAUSE = 0.02  # seconds; the first pause of a dispute is drawn from 0 to here


class S3Store:
    """Objects under a prefix of a bucket. Safe for threads, processes and hosts at once; a fork needs fresh()."""

    def __init__(self, **options: Any) -> None:
        self._settings = S3Settings(**options)
        self._bucket, self._root = self._settings.bucket, self._settings.root
        self._lock = Lock()
        self._made: Any = None
        # Does the server honour If-None-Match? AWS says so; others show it when they are written to.
        self._conditional: bool | None = None if self._settings.endpoint_url else True

    # ---------------------------------------------------------------- the owner's verbs

    def create(self) -> None:
        """See that the bucket is there, or make it when the options say so.

        StoreRefused when it is not; ForeignRepository when there are other things under the prefix.
        """
        with self._told("creating it"):
            try:
                self._refuse_strangers()
            except ClientError as error:
                if code(error) != "NoSuchBucket" or not self._settings.create_bucket:
                    raise
                self._make_bucket()

    def sweep(self, older_than_seconds: float) -> int:
        """Other programs, and files saved through Django, upload in parts; ours leave nothing to be swept."""
        latest = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        with self._told("sweeping it"):
            abandoned = [upload for upload in self._uploads() if upload["Initiated"] <= latest]
            for upload in abandoned:
                self._abort(upload)
        return len(abandoned)

    # ---------------------------------------------------------------- the port

    def put(self, name: str, data: Data) -> None:
        data = bytes(data)  # the client library takes nothing else
        sure = _keeps_promise(store.validate_name(name), data)  # then a server that overwrites does no harm
        with self._told(f"writing {name}"):
            if not sure and self._kept_already(name, data):
                return
            self._publish(name, data)
            if not sure and self._conditional is None:
                self._conditional = not self._sent_first(name, data)  # the same bytes once more

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        store.validate_name(name)
        if start < 0 or (length is not None and length < 0):
            store.span(name, 0, start, length)
        with self._told(f"reading {name}"):
            with suppress(FlexibleChecksumError):
                return self._read(name, start, length)
            try:  # once more: the wire may have been at fault
                return self._read(name, start, length)
            except FlexibleChecksumError:
                raise ObjectDamaged(name, "its bytes do not have the checksum that was stored with them") from None

    def stat(self, name: str) -> ObjectInfo:
        store.validate_name(name)
        with self._told(f"looking at {name}"):
            return ObjectInfo(name, int(self._head(name)["ContentLength"]))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        store.validate_prefix(prefix)
        return self._listed(prefix)

    def delete(self, name: str) -> None:
        store.validate_name(name)
        with self._told(f"deleting {name}"):
            try:
                self._client.delete_object(Bucket=self._bucket, Key=self._root + name)
            except ClientError as error:
                if code(error) != "NoSuchKey":
                    raise

    def set_aside(self, name: str, aside: str) -> None:
        """The server copies; nothing is read here."""
        store.validate_name(name)
        more = {"StorageClass": self._settings.storage_class} if self._settings.storage_class else {}
        with self._told(f"setting {name} aside"):
            self._head(name)  # answers to a copy tell less about what is not there
            if self._is_there(store.validate_name(aside)):
                return
            source = {"Bucket": self._bucket, "Key": self._root + name}
            self._client.copy_object(Bucket=self._bucket, Key=self._root + aside, CopySource=source, **more)

    def capabilities(self) -> Capabilities:
        """overwrite_refused is known after the first name without a promise was written, and until then denied."""
        with self._told("looking at it"):
            self._look()
        return Capabilities(overwrite_refused=self._conditional is True, parallel=PARALLEL)

    def fresh(self) -> S3Store:
        fresh = S3Store(**asdict(self._settings))
        fresh._conditional = self._conditional
        return fresh

    def describe(self) -> str:
        return self._settings.describe()

    # ---------------------------------------------------------------- the bucket

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = connect(self._settings)
            return self._made

    def _look(self) -> None:
        """The smallest request whose refusal says why: answers to HEAD have no words in them."""
        self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._root, MaxKeys=1)

    def _refuse_strangers(self) -> None:
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._root, Delimiter="/")
        keys = [entry["Key"] for entry in found.get("Contents", ())]
        keys += [entry["Prefix"] for entry in found.get("CommonPrefixes", ())]
        names = {key.removeprefix(self._root).rstrip("/") for key in keys}
        if strangers := sorted(names - OURS - {""}):  # "": the mark that consoles leave for an empty folder
            raise ForeignRepository(
                f"There are other objects in {self.describe()}, as “{printable(strangers[0].encode())}”: "
                "choose a new prefix."
            )

    def _make_bucket(self) -> None:
        where, region = {}, self._settings.region
        if not self._settings.endpoint_url and region not in ("", "us-east-1"):
            where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self._client.create_bucket(Bucket=self._bucket, **where)
        except ClientError as error:
            if code(error) != "BucketAlreadyOwnedByYou":  # another process was first
                raise

    def _uploads(self) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_multipart_uploads")
        try:
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._root):
                yield from page.get("Uploads", ())
        except ClientError as error:
            if status(error) != 501:  # a server without uploads in parts
                raise

    def _abort(self, upload: dict[str, Any]) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        except ClientError as error:
            if code(error) != "NoSuchUpload":
                raise

    # ---------------------------------------------------------------- writing

    def _kept_already(self, name: str, data: bytes) -> bool:
        """Whether these bytes are there; ObjectExists or ObjectDamaged when it is others."""
        same = self._holds(name, data)
        if same is False:
            store.refuse_overwrite(name, data, self.describe())
        return bool(same)

    def _holds(self, name: str, data: bytes) -> bool | None:
        """Whether exactly these bytes are kept under the name; None when nothing is. Reads them: a checksum that was
        stored once does not tell what became of the bytes since."""
        try:
            return self.stat(name).size == len(data) and self.get(name) == data
        except ObjectMissing:
            return None
        except ObjectDamaged:
            return False

    def _publish(self, name: str, data: bytes) -> None:
        for turn in range(_TURNS):
            if self._sent_first(name, data):
                return
            same = self._holds(name, data)
            if same is False:
                store.refuse_overwrite(name, data, self.describe())
                self._send(name, data)
            if same is not None:
                return
            self._wait(turn)  # it was deleted since, or another writer is about to be done
        raise StoreUnavailable(f"Other writers always come between: {self.describe()} (while writing {name}).")

    def _wait(self, turn: int) -> None:
        time.sleep(random.uniform(0, _PAUSE * 2**turn))  # noqa: S311  # chance keeps writers apart, and no secrets

    def _sent_first(self, name: str, data: bytes) -> bool:
        """Send it unless the name is taken, or being taken by somebody else; whether it was sent."""
        condition = {} if self._conditional is False else {"IfNoneMatch": "*"}
        try:
            self._send(name, data, **condition)
        except ClientError as error:
            if status(error) == 501 and condition:
                self._conditional = False
                return self._sent_first(name, data)
            if status(error) not in (*_TAKEN, _DISPUTED):
                raise
            self._conditional = self._conditional or status(error) == 412 or None
            return False
        return True

    def _send(self, name: str, data: bytes, **more: str) -> None:
        if self._settings.storage_class:
            more["StorageClass"] = self._settings.storage_class
        try:
            answer = self._client.put_object(
                Bucket=self._bucket, Key=self._root + name, Body=data, **self._checksum(data), **more
            )
        except ERRORS as error:
            if not (outcome_unknown(error) and self._arrived(name, data)):
                raise
        else:
            if not answer.get("ETag"):
                raise StoreRefused(f"What answers a put without an ETag is no S3: {self.describe()}.")

    def _checksum(self, data: bytes) -> dict[str, str]:
        if self._settings.checksums == "supported":
            return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode()}
        return {"ContentMD5": base64.b64encode(_md5(data)).decode()}

    def _arrived(self, name: str, data: bytes) -> bool:
        """After an answer that was lost: is the object there as it was sent? False also when nobody can tell."""
        with suppress(EngineError, *ERRORS):
            found = self._head(name, ChecksumMode="ENABLED")
            if int(found["ContentLength"]) != len(data):
                return False
            ours = self._checksum(data).get("ChecksumSHA256")
            same = found.get("ChecksumSHA256") == ours if ours else found["ETag"].strip('"') == _md5(data).hex()
            return same or self.get(name) == data  # no checksum was kept, or the ETag of an encrypted object
        return False

    # ---------------------------------------------------------------- reading

    def _head(self, name: str, **more: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._client.head_object(Bucket=self._bucket, Key=self._root + name, **more)
        except ClientError as error:
            if status(error) in (400, 403, 404):
                self._look()
            if status(error) == 404:
                raise ObjectMissing(name, self.describe()) from None
            raise
        return found

    def _is_there(self, name: str) -> bool:
        with suppress(ObjectMissing):
            self._head(name)
            return True
        return False

    def _read(self, name: str, start: int, length: int | None) -> bytes:
        answer = self._asked(name, start, length) if length != 0 else None
        if answer is not None:
            with closing(answer["Body"]) as body:
                return self._received(name, answer, body, start, length)
        if store.span(name, self.stat(name).size, start, length):
            raise StoreUnavailable(f"The server denies bytes that are there: {self.describe()} (while reading {name}).")
        return b""

    def _asked(self, name: str, start: int, length: int | None) -> Any:
        """The answer with its body still to be read; None when the object ends before the range begins."""
        end = "" if length is None else start + length - 1
        whole = start == 0 and length is None
        more = {} if whole else {"Range": f"bytes={start}-{end}"}
        if whole and self._settings.checksums == "supported":
            more = {"ChecksumMode": "ENABLED"}
        try:
            return self._client.get_object(Bucket=self._bucket, Key=self._root + name, **more)
        except ClientError as error:
            if code(error) == "NoSuchKey":
                raise ObjectMissing(name, self.describe()) from None
            if status(error) == 416:
                return None
            raise

    def _received(self, name: str, answer: Any, body: Any, start: int, length: int | None) -> bytes:
        first, size = self._extent(name, answer)
        wanted = store.span(name, size, start, length)
        data: bytes = body.read()
        if len(data) != wanted:  # a server that knows no ranges sends everything
            data = data[start - first : start - first + wanted]
        if len(data) != wanted:
            raise StoreUnavailable(f"The answer ended too early: {self.describe()} (while reading {name}). Try again.")
        return data

    def _extent(self, name: str, answer: Any) -> tuple[int, int]:
        """Where the body begins in the object, and the object's size: from "bytes 3-9/10"."""
        if not answer.get("ContentRange"):
            return 0, int(answer["ContentLength"])
        told, _, size = answer["ContentRange"].removeprefix("bytes ").partition("/")
        return int(told.partition("-")[0]), int(size) if size.isdigit() else self.stat(name).size

    def _listed(self, prefix: str) -> Iterator[ObjectInfo]:
        last = ""
        for page in self._pages(prefix):
            for info in page:
                if info.name <= last:
                    raise StoreRefused(
                        f"The server lists {info.name} after {last}, not in the order of names: {self.describe()}."
                    )
                last = info.name
                yield info

    def _pages(self, prefix: str) -> Iterator[Sequence[ObjectInfo]]:
        """Each sorted: servers that keep folders list "a/b" before "a-b". Names of one repository show no difference,
        and others would have to fall onto two pages for _listed() to find it."""
        more: dict[str, str] = {}
        while True:
            with self._told("listing it"):
                found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._root + prefix, **more)
            infos = filter(None, map(self._info, found.get("Contents", ())))
            yield sorted(info for info in infos if info.name.startswith(prefix))  # some servers take "a//" for "a/"
            if not found.get("IsTruncated"):
                return
            token = found.get("NextContinuationToken")
            more = {"ContinuationToken": token} if token else {"StartAfter": found["Contents"][-1]["Key"]}

    def _info(self, entry: dict[str, Any]) -> ObjectInfo | None:
        """None for what is no object of ours."""
        with suppress(EngineError):
            return ObjectInfo(store.validate_name(entry["Key"].removeprefix(self._root)), int(entry["Size"]))
        return None

    # ---------------------------------------------------------------- errors

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except ERRORS as error:
            # Not "from error": what a library says may hold what it was given.
            raise translated(error, f"{self.describe()} (while {doing})", self._settings) from None


def _keeps_promise(name: str, data: bytes) -> bool:
    promise = store.promised_digest(name)
    return promise is not None and hashlib.sha256(data).hexdigest().startswith(promise)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
