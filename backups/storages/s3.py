"""A bucket of S3, at AWS or a compatible server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from django.core.files.base import File
from django.utils.translation import gettext as _
from storages.backends.s3 import S3Storage as LibraryStorage

from aihub_backup.core.options import OptionsError, option, secret
from aihub_backup.core.redaction import sensitive
from backups.engine.errors import EngineError
from backups.engine.stores.s3_client import S3Settings, client_config, open_session, region


@sensitive
@dataclass(frozen=True)
class S3Options:
    """Where the bucket is, who asks, and how."""

    bucket: str = option(label="Bucket", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
    prefix: str = option(
        "", label="Prefix", pattern=r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*",
        help="What all names begin with, such as backups/main; empty: the whole bucket is ours.",
    )  # fmt: skip
    endpoint_url: str = option(
        "", label="Endpoint", help="Address of a compatible server, such as https://s3.example.org; empty: AWS.",
        addresses=True,
    )  # fmt: skip
    region: str = option("", label="Region", pattern=r"[A-Za-z0-9-]+", help="Empty: us-east-1.")
    access_key: str = option(
        "", label="Access key", help="Empty: the role of the instance, or what ~/.aws of the worker's account says."
    )
    secret_key: str = secret("", label="Secret key")
    session_token: str = secret("", label="Session token", help="Only with temporary keys.")
    path_style: bool = option(
        True, label="Bucket in the path", help="Of an endpoint: https://endpoint/bucket; off: https://bucket.endpoint.",
        addresses=True,
    )  # fmt: skip
    ca_bundle: Path | None = option(
        None, label="Authorities", addresses=True,
        help="PEM file on every worker, with the authorities to trust instead of the public.",
    )  # fmt: skip
    checksums: Literal["supported", "required"] = option(
        "supported", label="Checksums", help="“required” for older servers, which know Content-MD5 and no more."
    )
    connect_timeout: float = option(10.0, label="Seconds for a connection", minimum=1, maximum=300)
    read_timeout: float = option(60.0, label="Seconds of silence", minimum=1, maximum=3600)
    storage_class: str = option("", label="Storage class", pattern=r"[A-Z0-9_]+", help="Empty: the bucket's own.")
    create_bucket: bool = option(False, label="Make the bucket where there is none")

    def __post_init__(self) -> None:
        """Refuse what no client could use, by the engine's own rules."""
        if self.ca_bundle is not None and not self.ca_bundle.is_absolute():
            raise OptionsError({"ca_bundle": "This must be an absolute path."})
        if bool(self.access_key) != bool(self.secret_key):
            missing = "secret_key" if self.access_key else "access_key"
            raise OptionsError({missing: "The access key and the secret key go together: give both, or none."})
        try:
            _settings(self)
        except EngineError as error:
            raise OptionsError({_named(str(error)): str(error)}) from None


class S3Storage(LibraryStorage):  # type: ignore[misc]  # django-storages has no types
    """The files below the prefix as Django sees them; repositories go through the engine's own store."""

    Options: ClassVar[type[Any]] = S3Options
    bound_to_node: ClassVar[bool] = False

    def __init__(self, options: S3Options) -> None:
        settings = self._own = _settings(options)
        super().__init__(
            access_key=settings.access_key, secret_key=settings.secret_key, security_token=settings.session_token,
            session_profile=None, bucket_name=settings.bucket, location=settings.prefix,
            endpoint_url=settings.endpoint_url or None, region_name=region(settings), use_ssl=True,
            verify=settings.ca_bundle or True, client_config=client_config(settings), file_overwrite=False,
            default_acl=None, custom_domain=None, querystring_auth=True,
            object_parameters={"StorageClass": settings.storage_class} if settings.storage_class else {},
        )  # fmt: skip

    @classmethod
    def store_options(cls, options: S3Options) -> dict[str, Any]:
        """Keyword arguments of `engine.stores.s3.S3Store`."""
        bundle = str(options.ca_bundle) if options.ca_bundle else ""
        return {**vars(options), "ca_bundle": bundle}

    @classmethod
    def describe(cls, options: S3Options) -> str:
        """The bucket, the prefix and the server: the engine says the same, in English only."""
        settings = _settings(options)
        words = _("the bucket %(bucket)s at %(server)s")
        if settings.prefix:
            words = _("the bucket %(bucket)s under %(prefix)s at %(server)s")
        return words % {"bucket": settings.bucket, "prefix": settings.root, "server": settings.server}

    def _create_session(self) -> Any:
        return open_session(self._own)  # the library's own reads profiles and variables of the account

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        if "w" in mode:  # the library publishes what was written so far when the writer fails
            raise ValueError(f"{name} cannot be opened for writing; hand a finished file to save().")
        opened: File[Any] = super()._open(name, mode)
        return opened


def _settings(options: S3Options) -> S3Settings:
    return S3Settings(**S3Storage.store_options(options))


def _named(sentence: str) -> str:
    """The option that one of the engine's sentences is about."""
    return next((name for name in S3Options.__dataclass_fields__ if f"option {name} " in sentence), "")
