"""A registry: the built-in members of a group, and those that plug-ins add."""

from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any, TypeVar, cast

from flames_cli.errors import FlamesError
from flames_cli.plugins.allowed import allowed_packages, is_allowed
from flames_cli.plugins.files import LOADING, PluginFile, files_in_use, quiet_stdout
from flames_cli.plugins.installed import installed_plugins
from flames_cli.plugins.origins import WORDS, Origin, Problem, describe_error

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Mapping from names to the members of a group; a member is imported when it is looked up.

    Its names are the built-in ones, then those of plug-ins. No entry point is read and no file is run before
    a name is asked for that is not built in, or all names are.
    """

    def __init__(
        self,
        group: str,
        builtin: Mapping[str, str | T],
        summaries: Mapping[str, str] | None = None,
        *,
        check: Callable[[object], str] = lambda _: "",
        adapt: Callable[[T, Origin], T] = lambda member, _: member,
        reserved: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Make a registry.

        Args:
            group: one of `plugins.GROUPS`.
            builtin: built-in members; a text is a reference, `module:attribute`.
            summaries: descriptions of built-in members; without it they are the members' own `summary`.
            check: function that returns what is wrong with a plug-in's object, else an empty text.
            adapt: function that returns the member that is used for a plug-in's object.
            reserved: aliases of built-in members, each with its name; no plug-in may have one.
        """
        self.group = group
        self.builtin: Mapping[str, str | T] = builtin
        self._summaries = summaries
        self._check, self._adapt = check, adapt
        self._reserved = reserved
        self._taken = {*builtin, *reserved}
        self._members: dict[Origin, T] = {}

    def __getitem__(self, name: str) -> T:
        if name in self.builtin:
            member = self.builtin[name]
            return cast(T, import_reference(member)) if isinstance(member, str) else member
        if not self._find(name):
            raise KeyError(name)
        self.require_known(name)
        return self._load(self._find(name)[0])

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or (isinstance(name, str) and len(self._find(name)) == 1)

    def __iter__(self) -> Iterator[str]:
        yield from self.builtin
        yield from sorted(self._usable(self._offered()))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def word(self) -> str:
        """Word for one member, such as model."""
        return WORDS[self.group]

    def look_up(self, name: str) -> T:
        """Return the member called `name`.

        Raises:
            FlamesError: the name is not known, or its plug-in cannot be used.
        """
        self.require_known(name)
        return self[name]

    def require_known(self, name: str) -> None:
        """Check that a name is known, without importing its plug-in.

        Raises:
            FlamesError: it is not, two plug-ins give it, or the site does not allow the plug-in.
        """
        if name in self.builtin:
            return
        found = self._find(name)
        if len(found) == 1:
            return
        if found:
            raise FlamesError(
                f"{self.word} '{name}' is given by two plug-ins, {found[0]} and {found[1]}, so that neither "
                f"is used; uninstall one of them, or leave its --plugin out"
            )
        if barred := [one for one in installed_plugins()[0] if (one.group, one.name) == (self.group, name)]:
            raise FlamesError(
                f"{self.word} '{name}' is of the plug-in {barred[0]}, which this site does not allow; allow "
                f"it with `flames deploy allow {barred[0].package}`, or use another {self.word}"
            )
        for file in usable_files():
            if file.error:
                raise FlamesError(
                    f"{self.word} '{name}' is not known, and the plug-in file {file.path} {file.error}; "
                    "correct the file, or leave its --plugin out"
                )
        near = get_close_matches(name, [*self], n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        known = ", ".join(self)
        choose = f"; choose one of {known}" if known else ""
        raise FlamesError(
            f"{self.word} '{name}' is not known{meant}{choose}; a plug-in may offer it: "
            "`flames info --plugins`"
        )

    def origin(self, name: str) -> Origin | None:
        """Return where a member comes from; None for a built-in one, and for a name that is not known."""
        found = [] if name in self.builtin else self._find(name)
        return found[0] if len(found) == 1 else None

    def origins(self) -> list[Origin]:
        """Return the origins of all plug-ins of the group, those that cannot be used among them."""
        return self._offered()

    def problems(self) -> list[Problem]:
        """Return what is wrong with the group's plug-ins as far as their names show it; imports no package.

        `problem_of` imports one.
        """
        found = [one for one in installed_plugins()[1] if one.group == self.group]
        found += [one for file in usable_files() for one in file.problems if one.group == self.group]
        for origin in self._offered():
            if text := self._clash(origin):
                found.append(Problem(self.group, origin.name, origin.package, origin.version, text))
        return found

    def problem_of(self, origin: Origin) -> str:
        """Import a plug-in, and return in one line why it cannot be used; empty if it can."""
        try:
            self._load(origin)
        except FlamesError as error:
            return str(error)
        return ""

    def summary(self, name: str) -> str:
        """Return the description of a member, without importing a plug-in."""
        if name in self.builtin:
            own = getattr(self.builtin[name], "summary", "")
            return self._summaries.get(name, "") if self._summaries is not None else str(own)
        origin = self.origin(name)
        return f"plug-in of {origin}" if origin else ""

    def listed(self) -> dict[str, str]:
        """Return the descriptions of built-in members and of installed packages' plug-ins by name, as the
        help shows them; nothing is imported and no file is run."""
        installed = [one for one in _allowed(installed_plugins()[0]) if one.group == self.group]
        origins = {one.name: one for one in installed}
        plugged = {name: f"plug-in of {origins[name]}" for name in sorted(self._usable(installed))}
        return {name: self.summary(name) for name in self.builtin} | plugged

    def _offered(self) -> list[Origin]:
        files = (one for file in usable_files() for one in file.origins)
        return [one for one in _allowed((*installed_plugins()[0], *files)) if one.group == self.group]

    def _find(self, name: str) -> list[Origin]:
        return [] if name in self._taken else [one for one in self._offered() if one.name == name]

    def _usable(self, offered: list[Origin]) -> set[str]:
        names = [one.name for one in offered]
        return {name for name in names if names.count(name) == 1} - self._taken

    def _clash(self, origin: Origin) -> str:
        """Return why a plug-in's name cannot be used, once for two that share it; empty if it can."""
        gives = f"it gives the {self.word} '{origin.name}'"
        if origin.name in self.builtin:
            return f"{gives}, which is built in: the built-in one is used"
        if origin.name in self._reserved:
            known = self._reserved[origin.name]
            return f"{gives}, which is another name of '{known}': the built-in one is used"
        first, *others = [one for one in self._offered() if one.name == origin.name]
        if others and origin == first:
            return f"{gives}, and so does {others[0]}: neither is used; uninstall one of them"
        return ""

    def _load(self, origin: Origin) -> T:
        if origin not in self._members:
            made = _import(origin)
            if wrong := self._check(made):
                raise FlamesError(
                    f"the plug-in {origin} gives the {self.word} '{origin.name}', which cannot be used: "
                    f"{wrong}; correct or uninstall it"
                )
            self._members[origin] = self._adapt(cast(T, made), origin)
        return self._members[origin]


def usable_files() -> list[PluginFile]:
    """Return the files of plug-ins; none where a site allows only some packages."""
    return files_in_use() if allowed_packages() is None else []


def _allowed(offered: Collection[Origin]) -> list[Origin]:
    packages = allowed_packages()
    return [one for one in offered if is_allowed(one, packages)]


def _import(origin: Origin) -> object:
    """Return the object of a plug-in.

    Raises:
        FlamesError: its import fails, whatever it raises.
    """
    if origin.file:
        for file in files_in_use():
            if file.path == origin.file:
                return file.objects[origin.group, origin.name]
    try:
        with LOADING, quiet_stdout():
            return import_reference(origin.reference)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in that calls sys.exit costs nothing but itself
        raise FlamesError(
            f"the plug-in {origin} fails on import, which the {WORDS[origin.group]} '{origin.name}' needs "
            f"({describe_error(error)}); correct or uninstall it"
        ) from error


def import_reference(reference: str) -> Any:
    """Import and return what `module:attribute` names; the extras of an entry point are left out."""
    module, _, attributes = reference.partition("[")[0].strip().partition(":")
    found: Any = import_module(module.strip())
    for attribute in filter(None, attributes.strip().split(".")):
        found = getattr(found, attribute)
    return found
