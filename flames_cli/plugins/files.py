"""Plug-ins of single files, which the user names with --plugin, the environment or the public API.

Their paths are in an environment variable, so that processes that this one starts use the same files. Nothing
else names a file: no artifact, no server and no message.
"""

import hashlib
import os
import sys
import types
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

from flames_cli.errors import FlamesError
from flames_cli.plugins.installed import bad_name
from flames_cli.plugins.origins import GROUPS, NAME, Origin, Problem, describe_error, one_line

FILES_VARIABLE = "FLAMES_PLUGINS"
"""Environment variable with the paths of the files, separated as in PATH."""

DICTIONARIES = {group: group.upper() for group in GROUPS}
"""Name of the dictionary of each group in a file."""

LOADING = RLock()
"""Lock under which plug-ins are imported: `sys.stdout` is another one meanwhile."""


@dataclass(slots=True)
class PluginFile:
    """A file that was loaded, or the reason why it could not be."""

    path: Path
    version: str
    objects: dict[tuple[str, str], object] = field(default_factory=dict)
    """Objects by group and name."""
    problems: list[Problem] = field(default_factory=list)
    error: str = ""
    """Reason why nothing of the file can be used; empty if it was loaded."""

    @property
    def origins(self) -> list[Origin]:
        """Origins of its plug-ins."""
        return [
            Origin(group, name, shown_name(self.path), self.version, DICTIONARIES[group], self.path)
            for group, name in self.objects
        ]


_LOADED: dict[Path, PluginFile] = {}
"""Files that this process has loaded, by their absolute path."""


def use_files(paths: Iterable[Path | str]) -> None:
    """Use the plug-ins of these files in this process and in those that it starts; none of it is run yet.

    Without a path, the files that the environment names stay in use.

    Raises:
        FlamesError: a file is missing, is no Python file, has wrong syntax, or two have the same name.
    """
    files = [Path(os.path.abspath(Path(path).expanduser())) for path in paths]  # noqa: PTH100 (keeps links)
    if not files:
        return
    by_stem: dict[str, Path] = {}
    for file in files:
        other = by_stem.setdefault(file.stem, file)
        if other != file:
            raise FlamesError(
                f"--plugin got {other} and {file}, two files of one name; expected names that differ: "
                "rename one"
            )
        _check(file)
    os.environ[FILES_VARIABLE] = os.pathsep.join(map(str, by_stem.values()))


def _check(file: Path) -> None:
    if file.suffix != ".py":
        raise FlamesError(f"--plugin got {file}, expected a Python file, such as plugin.py; check its path")
    if os.pathsep in str(file):
        raise FlamesError(f"--plugin got {file}, whose path contains {os.pathsep}; rename the file or folder")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise FlamesError(
            f"--plugin {file} cannot be read ({error.strerror}); check its path, and the "
            f"variable {FILES_VARIABLE}"
        ) from error
    try:
        compile(content, str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise FlamesError(
            f"--plugin {file} is no valid Python ({describe_error(error)}); correct it"
        ) from error
    if file in _LOADED and _LOADED[file].version != _version(content):
        del _LOADED[file]  # it was edited since the last call, as in a notebook


def files_in_use() -> list[PluginFile]:
    """Return the files that the environment names, loaded; each is run once in a process."""
    paths = filter(None, os.environ.get(FILES_VARIABLE, "").split(os.pathsep))
    return [_load(Path(os.path.abspath(path))) for path in dict.fromkeys(paths)]  # noqa: PTH100


def _load(path: Path) -> PluginFile:
    with LOADING:
        if path not in _LOADED:
            try:
                content = path.read_bytes()
            except OSError as error:
                return PluginFile(path, "unknown", error=f"cannot be read ({error.strerror})")
            # It is there before it runs, so that a file that looks up a plug-in does not load itself again.
            made = _LOADED[path] = PluginFile(path, _version(content))
            _run(made, content)
        return _LOADED[path]


def _run(file: PluginFile, content: bytes) -> None:
    """Run the file's bytes, those that were hashed, and take its dictionaries."""
    name = f"flames_plugin_{file.path.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(file.path)
    sys.modules[name] = module
    try:
        with quiet_stdout():
            exec(compile(content, str(file.path), "exec", dont_inherit=True), module.__dict__)
    except KeyboardInterrupt:
        del _LOADED[file.path]
        raise
    except BaseException as error:  # a file that calls sys.exit costs nothing but itself
        sys.modules.pop(name, None)
        file.error = f"fails on import ({describe_error(error)})"
        return
    given = {group: getattr(module, one) for group, one in DICTIONARIES.items() if hasattr(module, one)}
    if not given:
        file.error = f"has none of the dictionaries {', '.join(DICTIONARIES.values())}"
    for group, objects in given.items():
        _take(file, group, objects)


def _take(file: PluginFile, group: str, objects: Any) -> None:
    def report(name: str, text: str) -> None:
        file.problems.append(Problem(group, name, shown_name(file.path), file.version, text))

    if not isinstance(objects, Mapping):
        report("", f"{DICTIONARIES[group]} is {type(objects).__name__}, expected a dictionary")
        return
    for name, made in objects.items():
        if isinstance(name, str) and NAME.fullmatch(name):
            file.objects[group, name] = made
        else:
            report(one_line(name), bad_name(one_line(name)))


def shown_name(path: Path) -> str:
    """Return the name of a file as messages and facts show it."""
    return one_line(path.name)


def _version(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()[:12]}"


def quiet_stdout() -> redirect_stdout[Any]:
    """Send to stderr what is printed: with --json, stdout is for the result alone."""
    return redirect_stdout(sys.stderr)
