"""Digest of the code of a plug-in: an editable package changes without a new version."""

import hashlib
import sys
from pathlib import Path

from flames_cli.plugins.origins import Origin


def code_digest(origin: Origin) -> str:
    """Return the SHA-256 of the Python files of a loaded plug-in's package, or the version of its file.

    Files that cannot be read, such as those of a zip file, have no part in it.
    """
    if origin.file:
        return origin.version
    names = origin.reference.partition(":")[0].strip()
    own = [sys.modules.get(name) for name in (names.partition(".")[0], names)]
    paths = [Path(file) for module in own if (file := getattr(module, "__file__", None))]
    digest = hashlib.sha256()
    for file in _files_of(paths[0]) if paths else ():
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _files_of(path: Path) -> list[Path]:
    if path.name == "__init__.py":
        return sorted(one for one in path.parent.rglob("*.py") if one.is_file())
    return [path] if path.is_file() else []
