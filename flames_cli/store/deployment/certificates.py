"""Certificates of a deployment (X.509, RFC 5280) and their keys: elliptic curve P-384, all in PEM."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import reason_of, replacing, write_private

AUTHORITY_DAYS = 3650
"""Shortest lifetime of an authority: a new authority would need new folders for all sites."""

BACKDATED = timedelta(hours=1)
"""Time by which a certificate starts earlier than it is made, because the clocks of machines differ."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names in every server's certificate, for the commands that run on the same machine."""

_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)
"""Exceptions that the library raises for files that are not valid certificates or keys."""


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """Period in which a certificate is valid (UTC), and the names of its server."""

    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]

    def covers(self, host: str) -> bool:
        """Return whether a client that connects to `host` accepts the certificate."""
        return _plain(host) in self.names


def make_authority(certificate: Path, key: Path, days: int) -> None:
    """Write a certificate authority that is valid for `days` from now, or for ten years if that is longer,
    and its key."""
    private = ec.generate_private_key(ec.SECP384R1())
    subject = _name("FLAMES deployment authority")
    builder = _builder(subject, private.public_key(), max(days, AUTHORITY_DAYS))
    builder = builder.issuer_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    _write_pair(builder.sign(private, hashes.SHA384()), private, certificate, key)


def make_server_certificate(
    authority: Path, authority_key: Path, certificate: Path, key: Path, host: str, days: int
) -> None:
    """Write a certificate for the server at `host` and at this machine's loopback names, and its key.

    Args:
        authority: the certificate of the authority that signs it.
        authority_key: the authority's private key.
        certificate: path of the new certificate.
        key: path of the new key, readable only by its owner.
        host: a host name or an IP address.
        days: time from now for which the certificate is valid.

    Raises:
        FlamesError: the authority's files cannot be read, or the folder cannot be written.
    """
    issuer, issuer_key = _read_certificate(authority), _read_key(authority_key)
    private = ec.generate_private_key(ec.SECP384R1())
    builder = _builder(_name("FLAMES server"), private.public_key(), days).issuer_name(issuer.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(_alternative_names([host, *LOOPBACK]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    _write_pair(builder.sign(issuer_key, hashes.SHA384()), private, certificate, key)


def _builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - BACKDATED).not_valid_after(now + timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(map(_plain, hosts))])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _plain(host: str) -> str:
    """Return one spelling of each host: names in lower case, IP addresses in their shortest form."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _write_pair(
    made: x509.Certificate, private: ec.EllipticCurvePrivateKey, certificate: Path, key: Path
) -> None:
    pem = serialization.PrivateFormat.PKCS8
    encoded = private.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption())
    write_private(key, encoded)
    with replacing(certificate) as temporary:
        temporary.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def describe_certificate(certificate: Path) -> CertificateInfo:
    """Return the validity period and the names of a certificate.

    Raises:
        FlamesError: it cannot be read as a certificate.
    """
    return _info_of(_read_certificate(certificate))


def describe_pem(text: str) -> CertificateInfo:
    """Return the validity period and the names of a certificate in PEM that another machine has sent.

    Raises:
        ValueError: it cannot be read as a certificate.
    """
    try:
        return _info_of(x509.load_pem_x509_certificate(text.encode()))
    except _UNREADABLE as error:
        raise ValueError("it is no certificate") from error


def _info_of(read: x509.Certificate) -> CertificateInfo:
    return CertificateInfo(read.not_valid_before_utc, read.not_valid_after_utc, _names_of(read))


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(_plain(str(name.value)) for name in found)


def is_signed_by(certificate: Path, authority: Path) -> bool:
    """Return whether `authority` signed `certificate`.

    Raises:
        FlamesError: one of them cannot be read as a certificate.
    """
    issued, issuer = _read_certificate(certificate), _read_certificate(authority)
    try:
        issued.verify_directly_issued_by(issuer)
    except (InvalidSignature, *_UNREADABLE):
        return False
    return True


def key_matches(key: Path, certificate: Path) -> bool:
    """Return whether `key` is the private key of `certificate`.

    Raises:
        FlamesError: one of them cannot be read.
    """
    return _read_key(key).public_key() == _read_certificate(certificate).public_key()


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_bytes(path))
    except _UNREADABLE as error:
        raise FlamesError(f"{path} is not a certificate in PEM; copy it again") from error


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_bytes(path), password=None)
    except _UNREADABLE as error:
        raise FlamesError(f"{path} is not a private key in PEM without a password; restore it") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FlamesError(f"{path} is not an elliptic curve's private key; restore it")
    return key


def read_bytes(path: Path) -> bytes:
    """Return the file's content.

    Raises:
        FlamesError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise FlamesError(
            f"{path} cannot be read: {reason_of(error)}; check the file and its rights"
        ) from error
