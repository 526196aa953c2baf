"""Pseudonyms of patients, which reveal nothing about the patient without the site's salt."""

import hmac
import unicodedata
from collections.abc import Iterable

from flames_cli.errors import FlamesError

SALT_BYTES = 32
"""Number of bytes of a salt, as many as SHA-256 returns.

With fewer bytes, a person who guesses ids could also guess salts.
"""

DIGITS = 16
"""64 bits: with a million patients per site, two pseudonyms collide at one site in 37 million."""


def pseudonym(salt: bytes, patient: str) -> str:
    """Return `p-` and the first DIGITS hex digits of the HMAC-SHA256 (RFC 2104) of `patient` under `salt`.

    The patient's id is normalised to NFC and encoded in UTF-8, so é written as one character or as two gives
    the same pseudonym.
    """
    # File names may contain bytes that are not text; surrogateescape gives these bytes back unchanged.
    known = unicodedata.normalize("NFC", patient).encode("utf-8", "surrogateescape")
    return f"p-{hmac.digest(salt, known, 'sha256').hex()[:DIGITS]}"


def pseudonyms(salt: bytes, patients: Iterable[str], within: str = "") -> dict[str, str]:
    """Return {patient: pseudonym}, with a different pseudonym for each patient.

    Args:
        salt: the site's secret.
        patients: ids of patients.
        within: name of the data set outside of which the ids have no meaning, such as numbers of images: the
            pseudonym is then that of `within/id`. Empty: an id is one person in all data sets.

    Raises:
        FlamesError: two patients would have the same pseudonym.
    """
    names: dict[str, str] = {}
    bearers: dict[str, str] = {}
    for patient in dict.fromkeys(patients):
        name = names[patient] = pseudonym(salt, f"{within}/{patient}" if within else patient)
        if (other := bearers.setdefault(name, patient)) != patient:
            raise FlamesError(
                f"patients {other!a} and {patient!a} would have the same pseudonym, expected different "
                "ones; give them the same id if they are one person, else change the id of one of them"
            )
    return names
