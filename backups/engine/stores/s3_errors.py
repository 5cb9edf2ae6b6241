"""What a server of S3 and the way to it may answer, each with its sentence and kind."""

from __future__ import annotations

from http import HTTPStatus

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from backups.engine.errors import EngineError, StoreFull, StoreRefused, StoreUnavailable
from backups.engine.stores.s3_client import S3Settings

# Everything a request may raise; OSError from sockets that no layer between has wrapped.
ERRORS = (boto.BotoCoreError, boto.ClientError, ResponseParserError, HTTPError, OSError)

_DENIED = (
    StoreRefused,
    "The access key has no permission for this: {where}. Let it list the bucket, and get, put and delete objects.",
)
_REGION = (StoreRefused, "The bucket is in another region: {where}. Correct the option region, or endpoint_url.")
_TOKEN = (StoreRefused, "The session token is not valid any more: {where}. Give new keys and a new session_token.")
_BUSY = (StoreUnavailable, "The server asks us to slow down: {where}. Try again later, with fewer transfers at once.")
_FULL = (StoreFull, "No room is left, or a quota is used up: {where}. Enlarge it. What is stored stays readable.")
_WIRE = (StoreUnavailable, "The bytes that arrived are not those that were sent: {where}. Try again.")
_OTHER = (
    StoreRefused,
    "What answers does not speak S3: {where}. Correct the option endpoint_url; a web console has another port.",
)

_CODES: dict[str, tuple[type[EngineError], str]] = {
    "InvalidAccessKeyId": (
        StoreRefused, "The access key is not known there: {where}. Correct the option access_key.",
    ),
    "SignatureDoesNotMatch": (
        StoreRefused, "The secret key does not belong to the access key: {where}. Correct the option secret_key.",
    ),
    "InvalidToken": _TOKEN, "ExpiredToken": _TOKEN, "TokenRefreshRequired": _TOKEN,
    "AccessDenied": _DENIED, "AllAccessDisabled": _DENIED, "AccountProblem": _DENIED, "Forbidden": _DENIED,
    "403": _DENIED,
    "NoSuchBucket": (
        StoreRefused,
        "There is no such bucket: {where}. Make it, correct the option bucket, or set create_bucket.",
    ),
    "BucketAlreadyExists": (
        StoreRefused, "The bucket belongs to somebody else: {where}. Choose another name in the option bucket.",
    ),
    "InvalidBucketName": (StoreRefused, "A bucket cannot have this name: {where}. Correct the option bucket."),
    "RequestTimeTooSkewed": (
        StoreUnavailable,
        "The clocks of this host and of the server are more than 15 minutes apart: {where}. Set them by NTP.",
    ),
    "PermanentRedirect": _REGION, "TemporaryRedirect": _REGION, "301": _REGION, "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION, "InvalidLocationConstraint": _REGION,
    "SlowDown": _BUSY, "Throttling": _BUSY, "ThrottlingException": _BUSY, "TooManyRequests": _BUSY,
    "RequestLimitExceeded": _BUSY, "429": _BUSY, "503": _BUSY, "SlowDownRead": _BUSY, "SlowDownWrite": _BUSY,
    "QuotaExceeded": _FULL, "InsufficientStorage": _FULL, "InsufficientCapacity": _FULL, "507": _FULL,
    "XMinioStorageFull": _FULL, "XMinioAdminBucketQuotaExceeded": _FULL,
    "BadDigest": _WIRE, "IncompleteBody": _WIRE, "XAmzContentSHA256Mismatch": _WIRE, "InvalidDigest": _WIRE,
    "RequestTimeout": (StoreUnavailable, "The server waited for us too long: {where}. Try again."),
    "InvalidObjectState": (
        StoreRefused, "The object lies in an archive class: {where}. Bring it back to a readable class first.",
    ),
    "InvalidStorageClass": (
        StoreRefused, "The server does not know this class: {where}. Correct the option storage_class.",
    ),
    "404": _OTHER, "405": _OTHER, "MethodNotAllowed": _OTHER,
}  # fmt: skip


def status(error: Exception) -> int:
    """The HTTP status of an answer; 0 when there was none."""
    answer = error.response if isinstance(error, boto.ClientError) else {}
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code(error: Exception) -> str:
    """The server's word for what is wrong; the status where it said nothing."""
    answer = error.response if isinstance(error, boto.ClientError) else {}
    return str(answer.get("Error", {}).get("Code", "")) or str(status(error))


def outcome_unknown(error: Exception) -> bool:
    """The request may have been carried out, and only its reply was lost."""
    if isinstance(error, boto.ClientError):
        return status(error) in (500, 502, 504)
    return isinstance(error, boto.HTTPClientError | HTTPError) and not isinstance(error, boto.ConnectTimeoutError)


def translated(error: Exception, where: str, settings: S3Settings) -> EngineError:
    """The sentence and the kind for what went wrong; where names the place and the deed."""
    if isinstance(error, boto.ClientError):
        return _refusal(error, where, settings)
    if isinstance(error, ResponseParserError):
        return _OTHER[0](_OTHER[1].format(where=where))
    if isinstance(error, boto.SSLError):
        return _untrusted(error, where)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return StoreRefused(f"There is no access key: {where}. Give the options access_key and secret_key.")
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError | HTTPError | OSError):
        return StoreUnavailable(f"{_silence(error)}: {where}. See that the server runs and can be reached, try again.")
    return StoreRefused(f"{settings.hidden(str(error))} ({where})")


def _refusal(error: boto.ClientError, where: str, settings: S3Settings) -> EngineError:
    word, number = code(error), status(error)
    if "checksum" in word.lower() or number == HTTPStatus.NOT_IMPLEMENTED:
        return StoreRefused(f"The server does not know what we ask ({word}): {where}. Set checksums to “required”.")
    if known := _CODES.get(word) or (_BUSY if number in (429, 503) else _FULL if number == 507 else None):
        return known[0](known[1].format(where=where))
    said = settings.hidden(f"{word}: {error.response.get('Error', {}).get('Message', '')}".strip(": "))
    if number >= HTTPStatus.INTERNAL_SERVER_ERROR and _is_page(error):  # one with 200 too: the library made it 500
        return StoreUnavailable(
            f"A web page came and no answer of S3: {where}. Correct the option endpoint_url, or look at the proxy."
        )
    if number >= HTTPStatus.INTERNAL_SERVER_ERROR or number == HTTPStatus.REQUEST_TIMEOUT:
        return StoreUnavailable(f"The server has a fault of its own ({said}): {where}. Try again later.")
    return StoreRefused(f"The server refused it ({said}): {where}.")


def _is_page(error: boto.ClientError) -> bool:
    kind = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", "")
    return bool(kind) and "xml" not in kind and code(error).isdigit()


def _untrusted(error: boto.SSLError, where: str) -> EngineError:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
        return StoreRefused(
            f"The server's certificate is not trusted: {where}. Name its authority's file in the option ca_bundle, or"
            " correct the host in endpoint_url."
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return StoreRefused(f"The server does not speak TLS there: {where}. Correct the port, or begin with http://.")
    return StoreUnavailable(f"The TLS connection broke: {where}. Try again.")


def _silence(error: Exception) -> str:
    if isinstance(error, boto.ConnectTimeoutError):
        return "Nobody answered in time"
    if isinstance(error, boto.ReadTimeoutError):
        return "The answer did not come in time"
    if isinstance(error, boto.EndpointConnectionError | boto.ProxyConnectionError):
        return "No connection could be made"
    return "The connection broke"
