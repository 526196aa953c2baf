"""The node's guard: the only app that a server may have run here is FLAMES' own, as installed on this node.

A Flower App Bundle (FAB) is a zip file that may hold any Python code, and a node runs what its server sends.
Ours holds a pyproject.toml and its checksum, which name our own component: no code travels.
"""

import hashlib
import io
import re
import stat
import tomllib
import zipfile
from dataclasses import dataclass
from typing import Any

CLIENT_APP = "flames_cli.fed.apps:client_app"
"""As `flames_cli.fed.apps` has it, whose import would load the whole of PyTorch into a process that waits."""

MAX_FAB_BYTES = 256 * 1024
MAX_FILE_BYTES = 64 * 1024
"""Unpacked. Ours have less than 2 kB."""

PYPROJECT = "pyproject.toml"
CONTENTS = ".info/CONTENT"
FILES = (CONTENTS, PYPROJECT)
"""All that an app without code holds: `flwr run` adds a list of the files with their checksums."""

COMPONENTS = frozenset({"serverapp", "clientapp"})

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
"""Flower makes a folder's name of an app's publisher, name and version."""


class RefusedApp(Exception):
    """What the server wants run here is not FLAMES' own app; says why."""


@dataclass(frozen=True, slots=True)
class App:
    """What an app calls itself."""

    publisher: str
    name: str
    version: str


def check_fab(content: bytes) -> App:
    """What the app in this FAB calls itself.

    Raises:
        RefusedApp: it holds anything but its description, it names another component than ours, or it cannot
            be understood.
    """
    try:
        return _check_description(_read_description(content))
    except RefusedApp:
        raise
    except Exception as error:  # whatever is wrong with it: an app that is not understood is not run
        raise RefusedApp(f"it cannot be read ({type(error).__name__}: {error})") from error


def check_run(app_id: str, version: str, task_type: str) -> App:
    """What the app of a run is called, by what the server says of the run.

    Flower's folder of the app is named after this, not after the app itself.

    Raises:
        RefusedApp: its name could lead out of that folder, or it is no federation (`task_type`).
    """
    if task_type not in ("", "flwr-serverapp"):
        raise RefusedApp(f"its run is of the kind {task_type!r}, not a federation")
    publisher, _, name = app_id.partition("/")
    return _check_names(publisher, name, version)


def _read_description(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_FAB_BYTES:
        raise RefusedApp(f"it has {len(content)} bytes; an app without code has less than {MAX_FAB_BYTES}")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [entry.orig_filename for entry in archive.infolist()]
        if tuple(sorted(names)) != FILES:
            others = [name for name in names if name not in FILES] or names
            raise RefusedApp(f"it holds {', '.join(map(repr, others[:3]))}; only {PYPROJECT} is allowed")
        for entry in archive.infolist():
            _check_entry(entry)
        description, contents = archive.read(PYPROJECT), archive.read(CONTENTS)
    expected = f"{PYPROJECT},{hashlib.sha256(description).hexdigest()},{len(description) * 8}"
    if contents.decode() != expected:  # Flower opens every path in that list
        raise RefusedApp(f"its {CONTENTS} does not list {PYPROJECT} alone")
    return tomllib.loads(description.decode())


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if entry.file_size > MAX_FILE_BYTES:  # zipfile never unpacks more than this number says
        raise RefusedApp(f"its {entry.filename} has {entry.file_size} bytes unpacked")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise RefusedApp(f"its {entry.filename} is not a plain file")


def _check_description(description: dict[str, Any]) -> App:
    app = description["tool"]["flwr"]["app"]
    components = app["components"]
    if set(components) != COMPONENTS or components["clientapp"] != CLIENT_APP:
        raise RefusedApp(f"its components are {components!r}; the clientapp must be {CLIENT_APP}")
    project = description["project"]
    return _check_names(app["publisher"], project["name"], project["version"])


def _check_names(publisher: object, name: object, version: object) -> App:
    for value in (publisher, name, version):
        if not isinstance(value, str) or not PLAIN.fullmatch(value):
            raise RefusedApp(f"its publisher, name or version is {value!r}")
    return App(str(publisher), str(name), str(version))
