"""An authority nobody else knows, and the certificate of a server on 127.0.0.1 that it signed."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_Key = ec.EllipticCurvePublicKey


class Authority:
    """Files in PEM: `bundle` to be trusted, `certificate` and `key` for the server."""

    def __init__(self, folder: Path) -> None:
        self.bundle, self.certificate, self.key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
        own, servers = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = _named("An authority of tests")
        above = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        root = _begun(issuer, issuer, own.public_key(), own.public_key(), ca=True).add_extension(above, critical=True)
        leaf = _begun(_named("127.0.0.1"), issuer, servers.public_key(), own.public_key(), ca=False).add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]),
            critical=False,
        )
        for path, unsigned in ((self.bundle, root), (self.certificate, leaf)):
            path.write_bytes(unsigned.sign(own, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(_pem(servers))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    *,
    ca: bool,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
