"""Flower App Bundles (FAB): an app as one zip file, with a list of its files and their checksums.

Flower's own function takes a third of a second to import, and adds nothing to an app without code.
"""

import hashlib
import io
import zipfile
from pathlib import Path

from flames_cli.flower.app_guard import CONTENTS, PYPROJECT

DATE = (1980, 1, 1, 0, 0, 0)
"""Date of every file in a FAB, so that the same app has the same bytes and the same checksum."""


def build_fab(app: Path) -> bytes:
    """Return the FAB of the files in the folder `app`, which contains no other folder."""
    files = {path.name: path.read_bytes() for path in sorted(app.iterdir()) if path.is_file()}
    files = {PYPROJECT: files.pop(PYPROJECT), **files}
    listed = [
        f"{name},{hashlib.sha256(content).hexdigest()},{len(content) * 8}" for name, content in files.items()
    ]
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, CONTENTS: "\n".join(listed).encode()}.items():
            archive.writestr(zipfile.ZipInfo(name, DATE), content, zipfile.ZIP_DEFLATED)
    return written.getvalue()
