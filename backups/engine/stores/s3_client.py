"""What a place on S3 is called, and a client for it that listens to nobody else."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config

from backups.engine.errors import InvalidOption, StoreRefused

CHECKSUMS = ("supported", "required")
DEFAULT_REGION = "us-east-1"  # what compatible servers take when nothing else was said
PARALLEL = 8  # transfers at once that one host's network card is filled with

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")
_PREFIX = re.compile(r"(?!.*\.\.)[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*\Z")
_HEADER = re.compile(r"[!-~]*\Z")  # what may stand in a header; anything else would be repeated in an error's text

# The descriptions of the service are read once, also for forks: a client takes 0.04 s instead of 0.25 s.
_MODELS = botocore.loaders.create_loader()


@dataclass(frozen=True)
class S3Settings:
    """The options of an S3 storage.

    prefix           what all names begin with, without slashes at its ends; "" takes the whole bucket
    endpoint_url     of a compatible server; "": AWS
    access_key       "": whatever boto3 finds on this machine, such as the role of the instance
    path_style       https://endpoint/bucket instead of https://bucket.endpoint; AWS is always asked the second way
    ca_bundle        PEM file of the authorities that are trusted instead of the public ones
    checksums        "supported": SHA-256 kept by the server, checked on the way back; "required": only Content-MD5 on
                     the way there, for servers that know no more
    connect_timeout, read_timeout    seconds
    create_bucket    create() makes the bucket where there is none

    InvalidOption names the option that cannot be used, and never its value.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    path_style: bool = True
    ca_bundle: str = ""
    checksums: str = "supported"
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    storage_class: str = ""
    create_bucket: bool = False

    def __post_init__(self) -> None:
        for name, pattern in (("bucket", _BUCKET), ("prefix", _PREFIX)):
            if (value := getattr(self, name)) and not pattern.match(value):
                raise InvalidOption(
                    f"The option {name} of the s3 storage cannot be {value!r}: see what S3 allows there."
                )
        for name in ("region", "access_key", "secret_key", "session_token", "storage_class"):
            if not _HEADER.match(getattr(self, name)):
                raise InvalidOption(
                    f"The option {name} of the s3 storage holds blanks, line ends or letters beyond ASCII."
                )
        if bool(self.access_key) != bool(self.secret_key):
            raise InvalidOption(
                "The options access_key and secret_key of the s3 storage are given together or not at all."
            )
        if self.checksums not in CHECKSUMS:
            raise InvalidOption(f"The option checksums of the s3 storage is one of {', '.join(CHECKSUMS)}.")
        _check_endpoint(self.endpoint_url)

    @property
    def root(self) -> str:
        """What stands before the name of an object in its key."""
        return f"{self.prefix}/" if self.prefix else ""

    def describe(self) -> str:
        """The place in words, without secrets."""
        place = f"the bucket {self.bucket}" + (f" under {self.root}" if self.prefix else "")
        return f"{place} at {self.endpoint_url or f'AWS ({self.region or DEFAULT_REGION})'}"

    def hidden(self, text: str) -> str:
        """The text without our secrets: a server may repeat what it was sent."""
        for secret in filter(None, (self.secret_key, self.session_token)):
            text = text.replace(secret, "***")
        return text


def connect(settings: S3Settings) -> Any:
    """A boto3 client, safe for threads, not for forks; nothing is sent yet. StoreRefused: the CA file is no such."""
    try:
        client = open_session(settings).client(
            "s3",
            endpoint_url=settings.endpoint_url or None,
            region_name=region(settings),
            verify=_trusted(settings.ca_bundle),
            config=client_config(settings),
        )
    except ValueError:  # its text repeats the address
        raise StoreRefused("The option endpoint_url is not the address of a server.") from None
    if settings.endpoint_url:
        client.meta.events.register("before-call.s3", _stay)
    return client


def client_config(settings: S3Settings) -> Config:
    """How the client asks: version 4 signatures, one attempt (RetryingStore has the patience), timeouts."""
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if settings.endpoint_url and settings.path_style else "virtual"},
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        tcp_keepalive=True,
        max_pool_connections=2 * PARALLEL,
        retries={"total_max_attempts": 1, "mode": "standard"},
        request_checksum_calculation=f"when_{settings.checksums}",
        response_checksum_validation="when_required",  # asked for where whole objects are read: parts have no checksum
        ignore_configured_endpoint_urls=True,
    )


def open_session(settings: S3Settings) -> Any:
    """What clients are made from. With keys of its own it reads no file and no profile of the account it runs under."""
    if not settings.access_key:
        return boto3.session.Session()
    nothing = (None, None, os.devnull, None)
    own = botocore.session.Session(
        session_vars={"profile": (None, None, None, None), "config_file": nothing, "credentials_file": nothing}
    )
    own.register_component("data_loader", _MODELS)
    own.set_credentials(settings.access_key, settings.secret_key, settings.session_token or None)
    return boto3.session.Session(botocore_session=own)


def region(settings: S3Settings) -> str | None:
    """The region to sign for; None: what boto3 finds where it finds the keys."""
    return settings.region or (DEFAULT_REGION if settings.access_key else None)


def _stay(params: dict[str, Any], **_: object) -> None:
    """Only AWS has regions to be sent on to; of a web server that sends everybody on the library asks without end."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _trusted(ca_bundle: str) -> str | bool:
    if not ca_bundle:
        return True
    try:
        ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        why = error.strerror or error
        raise StoreRefused(f"The file {ca_bundle} of the option ca_bundle holds no certificates: {why}.") from None
    return ca_bundle


def _check_endpoint(endpoint_url: str) -> None:
    if not endpoint_url:
        return
    try:
        parts = urlsplit(endpoint_url)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or parts.username or parts.query or parts.fragment or not _HEADER.match(endpoint_url):
        raise InvalidOption(
            "The option endpoint_url of the s3 storage is an address such as https://s3.example.org, without names and"
            " passwords in it."
        )
