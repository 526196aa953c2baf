"""Names for patients that tell nothing of them to anyone without their site's salt."""

import hmac
import unicodedata
from collections.abc import Iterable

from flames_cli.errors import FlamesError

SALT_BYTES = 32
"""As many as SHA-256 gives; with fewer, whoever guesses ids could guess salts too."""

DIGITS = 16
"""64 bits: among a million patients, two alike once in 37 million sites."""


def pseudonym(salt: bytes, patient: str) -> str:
    """`p-` and the first DIGITS hex digits of HMAC-SHA256 (RFC 2104) under `salt`, of `patient` in NFC and
    UTF-8: é counts alike as one character and as two."""
    # Names of files may hold bytes that are no text; they come back as they were.
    known = unicodedata.normalize("NFC", patient).encode("utf-8", "surrogateescape")
    return f"p-{hmac.digest(salt, known, 'sha256').hex()[:DIGITS]}"


def pseudonyms(salt: bytes, patients: Iterable[str]) -> dict[str, str]:
    """{patient: pseudonym}, one each.

    Raises:
        FlamesError: two patients would have the same.
    """
    names: dict[str, str] = {}
    bearers: dict[str, str] = {}
    for patient in dict.fromkeys(patients):
        name = names[patient] = pseudonym(salt, patient)
        if (other := bearers.setdefault(name, patient)) != patient:
            raise FlamesError(
                f"patients {other!a} and {patient!a} would have one pseudonym, expected one each; "
                "call them alike if they are one person, else give one of them another id"
            )
    return names
