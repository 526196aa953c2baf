"""Names of files that are made of names of clients and modalities."""

from urllib.parse import quote, unquote


def safe_name(name: str) -> str:
    """Return `name` as a file name or a part of one: a modality may be called PET/CT. Different names give
    different results."""
    quoted = quote(name, safe=" ")
    # "." and ".." are valid names too.
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def name_of(safe: str) -> str:
    """Return the name of which `safe_name` has made this one."""
    return unquote(safe)
