"""Flower App Bundles as a server may send them: FLAMES' own, and changed ones."""

import hashlib
import io
import zipfile
from typing import Any

import tomli_w

from flames_cli.flower.app_guard import CLIENT_APP, App

OURS = App("flames", "flames-federation", "0.1.0")


def description(**changes: Any) -> dict[str, Any]:
    """Return the description of FLAMES' app with `changes` in [tool.flwr.app] or, else, in [project]."""
    app = {
        "publisher": OURS.publisher,
        "components": {"serverapp": "flames_cli.stages:server", "clientapp": CLIENT_APP},
        "config": {"job": ""},
    }
    project = {"name": OURS.name, "version": OURS.version}
    for name, value in changes.items():
        (app if name in app else project)[name] = value
    return {"project": project, "tool": {"flwr": {"app": app}}}


def listed(text: bytes) -> str:
    """Return the list of files that Flower adds to an app."""
    return f"pyproject.toml,{hashlib.sha256(text).hexdigest()},{len(text) * 8}"


def pack(files: dict[str, bytes], mode: int = 0) -> bytes:
    """Return a zip file with these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def fab(text: bytes | None = None, more: dict[str, bytes] | None = None, **changes: Any) -> bytes:
    """Return FLAMES' own app as a FAB, with another description or with `more` files."""
    text = tomli_w.dumps(description(**changes)).encode() if text is None else text
    return pack({"pyproject.toml": text, ".info/CONTENT": listed(text).encode(), **(more or {})})
