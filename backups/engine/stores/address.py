"""A place as people write it on a command line: a directory, or s3://BUCKET/PREFIX.

What an address does not tell comes from the environment: AIHUB_S3_ENDPOINT, AIHUB_S3_CA_BUNDLE, AIHUB_S3_CHECKSUMS
(supported or required), AWS_REGION or AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence

from backups.engine.errors import InvalidOption
from backups.engine.store import Place
from backups.engine.stores import open_store

_S3 = "s3://"
_VARIABLES = {
    "AIHUB_S3_ENDPOINT": "endpoint_url",
    "AIHUB_S3_CA_BUNDLE": "ca_bundle",
    "AIHUB_S3_CHECKSUMS": "checksums",
    "AWS_DEFAULT_REGION": "region",
    "AWS_REGION": "region",
    "AWS_ACCESS_KEY_ID": "access_key",
    "AWS_SECRET_ACCESS_KEY": "secret_key",
    "AWS_SESSION_TOKEN": "session_token",
}
_SECRET = {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}


def open_address(address: str, environment: MutableMapping[str, str]) -> Place:
    """The store at the address, not yet connected. Secrets are taken out of the environment, so that no child process
    inherits them. InvalidOption: the address or a variable cannot be used."""
    if not address.startswith(_S3):
        return open_store("local", {"path": os.path.abspath(address)})
    bucket, _, prefix = address.removeprefix(_S3).partition("/")
    if not bucket:
        raise InvalidOption(f"{address} names no bucket; write s3://BUCKET or s3://BUCKET/PREFIX.")
    found = {option: environment[name] for name, option in _VARIABLES.items() if environment.get(name)}
    if "access_key" in found:
        for name in _SECRET:
            environment.pop(name, None)
    return open_store("s3", {**found, "bucket": bucket, "prefix": prefix.strip("/")})


def open_addresses(addresses: Sequence[str], environment: MutableMapping[str, str]) -> list[Place]:
    """The stores at several addresses, of which the variables tell alike."""
    stores = [open_address(address, dict(environment)) for address in addresses]
    if environment.get("AWS_ACCESS_KEY_ID") and any(address.startswith(_S3) for address in addresses):
        for name in _SECRET:
            environment.pop(name, None)
    return stores
