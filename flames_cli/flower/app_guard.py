"""Check of the apps that a server sends: a node runs no app but FLAMES' own, as installed on this node.

A Flower App Bundle (FAB) is a zip file that may contain any Python code, and Flower's node runs it. FLAMES'
own FAB contains only a pyproject.toml, which names a component of the installed FLAMES, and its checksum: no
code is sent.
"""

import hashlib
import io
import logging
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flwr.supercore.fab import Fab
from flwr.supercore.run import Run, RunNotRunningException

from flames_cli.store.files.parse import parse_toml

LOG = logging.getLogger("flwr")

CLIENT_APP = "flames_cli.fed.apps:client_app"
"""The same name as in `flames_cli.fed.apps`, which is not imported here because it loads PyTorch."""

MAX_FAB_BYTES = 256 * 1024
MAX_FILE_BYTES = 64 * 1024
"""Largest size of a file in the FAB, uncompressed. FLAMES' own files have less than 2 kB."""

PYPROJECT = "pyproject.toml"
CONTENTS = ".info/CONTENT"
FILES = (CONTENTS, PYPROJECT)
"""All files of an app without code: `flwr run` adds a list of the files with their checksums."""

COMPONENTS = frozenset({"serverapp", "clientapp"})

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
"""Allowed publisher, name and version of an app: Flower makes the name of a folder of them."""

REJECTED = "FLAMES rejects the app of run"
"""First words of the guard's line in the node's log."""


class RejectedApp(Exception):
    """The app that the server wants this node to run is not FLAMES' own; the message is the reason."""


class RejectedRun(RunNotRunningException):
    """The app of a run was rejected. Flower's node ignores the message that it has just received."""


@dataclass(frozen=True, slots=True)
class App:
    """Publisher, name and version of an app."""

    publisher: str
    name: str
    version: str


class Guard:
    """The two requests by which a node gets the app of a run, each followed by a check of the response."""

    def __init__(self, get_run: Callable[[int], Run], get_fab: Callable[[str, int], Fab]) -> None:
        self._get_run = get_run
        self._get_fab = get_fab
        self._expected: dict[int, App] = {}

    def get_run(self, run_id: int) -> Run:
        """Return the server's description of a run.

        Raises:
            RejectedRun: the run is not a federation, or the name of its app is not allowed.
        """
        run = self._get_run(run_id)
        with rejecting(run_id):
            self._expected[run_id] = check_run(run.fab_id, run.fab_version, run.primary_task_type)
        return run

    def get_fab(self, fab_hash: str, run_id: int) -> Fab:
        """Return the app of a run.

        Raises:
            RejectedRun: the app is not FLAMES' own, or not the one that the server's description names.
        """
        fab = self._get_fab(fab_hash, run_id)
        with rejecting(run_id):
            app, expected = check_fab(fab.content), self._expected.get(run_id)
            if app != expected:
                raise RejectedApp(f"its own description names {app}, and the server's {expected}")
        return fab


@contextmanager
def rejecting(run_id: int) -> Iterator[None]:
    """Log a RejectedApp of the block, and raise RejectedRun instead."""
    try:
        yield
    except RejectedApp as error:
        LOG.error("%s %s: %s", REJECTED, run_id, error)
        raise RejectedRun(str(error)) from error


def check_fab(content: bytes) -> App:
    """Return the publisher, name and version of the app in this FAB.

    Raises:
        RejectedApp: the FAB contains anything but its description, it names another component than FLAMES',
            or it cannot be read.
    """
    try:
        return _check_description(_read_description(content))
    except RejectedApp:
        raise
    except Exception as error:  # an app that cannot be read, for any reason, must not run
        raise RejectedApp(f"it cannot be read ({type(error).__name__}: {error})") from error


def check_run(app_id: str, version: str, task_type: str) -> App:
    """Return the publisher, name and version of the app of a run, from the server's description of the run.

    Flower names the folder of the app after this description, not after the app's own.

    Raises:
        RejectedApp: a part of the name could lead out of that folder, or `task_type` is not a federation.
    """
    if task_type not in ("", "flwr-serverapp"):
        raise RejectedApp(f"its run is of the kind {task_type!r}, expected a federation")
    publisher, _, name = app_id.partition("/")
    return _check_names(publisher, name, version)


def _read_description(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_FAB_BYTES:
        raise RejectedApp(f"it has {len(content)} bytes; an app without code has less than {MAX_FAB_BYTES}")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [entry.orig_filename for entry in archive.infolist()]
        if tuple(sorted(names)) != FILES:
            others = [name for name in names if name not in FILES] or names
            raise RejectedApp(f"it contains {', '.join(map(repr, others[:3]))}; only {PYPROJECT} is allowed")
        for entry in archive.infolist():
            _check_entry(entry)
        description, contents = archive.read(PYPROJECT), archive.read(CONTENTS)
    expected = f"{PYPROJECT},{hashlib.sha256(description).hexdigest()},{len(description) * 8}"
    if contents.decode() != expected:  # Flower opens every path in that list
        raise RejectedApp(f"its {CONTENTS} does not list {PYPROJECT} alone")
    return parse_toml(description.decode())


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if entry.file_size > MAX_FILE_BYTES:  # zipfile never unpacks more than this number of bytes
        raise RejectedApp(f"its {entry.filename} has {entry.file_size} bytes unpacked")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise RejectedApp(f"its {entry.filename} is not a plain file")


def _check_description(description: dict[str, Any]) -> App:
    app = description["tool"]["flwr"]["app"]
    components = app["components"]
    if set(components) != COMPONENTS or components["clientapp"] != CLIENT_APP:
        raise RejectedApp(f"its components are {components!r}; the clientapp must be {CLIENT_APP}")
    project = description["project"]
    return _check_names(app["publisher"], project["name"], project["version"])


def _check_names(publisher: object, name: object, version: object) -> App:
    for value in (publisher, name, version):
        if not isinstance(value, str) or not PLAIN.fullmatch(value):
            raise RejectedApp(f"its publisher, name or version is {value!r}")
    return App(str(publisher), str(name), str(version))
