"""Commands whose options are built from the fields of their configuration (`config.SECTIONS`).

The options are built when a command is used or asked for its help, so that `flames --help` does not load the
configuration.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import click
from typer.core import TyperArgument, TyperCommand, TyperOption

from flames_cli.cli.names import known_names
from flames_cli.store import DEFAULT_WORKSPACE

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from flames_cli.config import Section

TYPES = {bool: click.BOOL, int: click.INT, float: click.FLOAT, Path: click.Path()}
"""Types that the command line itself checks; all others are checked by the configuration."""

BY_MODALITY = "_by_modality"
"""End of the name of a key that the option of the key without it also sets."""


class OptionalValue(TyperOption):
    """An option that may be given without its value, which is then empty."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # TyperOption does not hand on `flag_value`, which makes click set these two.
        self.flag_value = ""
        self._flag_needs_value = True


class SectionCommand(TyperCommand):
    """A command with one option for each key of the section of its name, and --config and --json."""

    extra: tuple[Callable[[], TyperOption], ...] = ()
    """Makers of options that are no keys of the section."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options, built at the first call."""
        if not self.params:
            self.params = [*section_options(str(self.name), self.extra)]
        return super().get_params(ctx)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command's function, which reads its options from the context."""
        return ctx.invoke(self.callback) if self.callback else None


def strategies_epilog() -> str:
    """Return a line for every strategy and every model, which follow the options in the help."""
    from flames_cli.plugins import registry_of

    lines = []
    for title, group in (("Strategies:", "strategies"), ("Models:", "models")):
        lines += [title, *(f"{name}: {what}" for name, what in registry_of(group).listed().items())]
    return "\n\n".join(lines)


class FederateCommand(SectionCommand):
    """The command `federate`, which also has --resume and --verbose."""

    @property
    def epilog(self) -> str:
        """Text after the options; it is made when the help is shown, since plug-ins are part of it."""
        return strategies_epilog()

    @epilog.setter
    def epilog(self, _: str | None) -> None:
        """Accept what the base class sets."""

    extra = (
        lambda: OptionalValue(
            param_decls=["resume", "--resume"],
            metavar="[RUN]",
            autocompletion=complete("runs and families"),
            help="Continue a run with its own options; without a name the newest run. Typed options must "
            "agree with those of the run.",
            rich_help_panel="Run",
        ),
        lambda: TyperOption(
            param_decls=["verbose", "--verbose"],
            is_flag=True,
            default=False,
            help="Also show the lines of the run's log, log.txt.",
            rich_help_panel="Run",
        ),
    )


def section_options(
    command: str, extra: tuple[Callable[[], TyperOption], ...] = ()
) -> Iterator[TyperOption | TyperArgument]:
    """Yield the options of a command by panel, its own keys before the shared ones."""
    from flames_cli.config import PANELS, SECTIONS, Section

    kind = SECTIONS[command]
    own = [key for key in kind.model_fields if key not in Section.model_fields]
    keys = [key for key in (*own, *Section.model_fields) if has_option(kind, key)]
    options = [
        *(make_argument(kind, key) if is_argument(kind, key) else make_option(kind, key) for key in keys),
        *(make() for make in extra),
        TyperOption(
            param_decls=["config", "--config"],
            type=click.Path(),
            help="TOML file with any of these options, or the config.toml of a run; typed options win.",
            rich_help_panel="Run",
        ),
        TyperOption(
            param_decls=["json_output", "--json"],
            is_flag=True,
            default=False,
            help="Print the result as JSON on stdout.",
            rich_help_panel="Run",
        ),
        TyperOption(
            param_decls=["quiet", "--quiet"],
            is_flag=True,
            default=False,
            help="Show results and errors only, no progress and no notes.",
            rich_help_panel="Run",
        ),
    ]
    yield from sorted(options, key=lambda option: PANELS.index(option.rich_help_panel or ""))


def has_option(kind: "type[Section]", key: str) -> bool:
    """Return whether a key has an option of its own."""
    return key not in kind.no_option and not key.endswith(BY_MODALITY)


def is_argument(kind: "type[Section]", key: str) -> bool:
    """Return whether the values of a key are typed without the name of an option."""
    from flames_cli.config import facts_of

    return bool(facts_of(kind, key).get("argument"))


def make_argument(kind: "type[Section]", key: str) -> TyperArgument:
    """Return the argument of one key, which takes all words that belong to no option."""
    from flames_cli.config import facts_of

    facts = facts_of(kind, key)
    made = TyperArgument(
        param_decls=[key],
        type=click.STRING,
        nargs=-1,
        required=False,
        metavar=facts.get("metavar"),
        autocompletion=complete(facts.get("names")),
    )
    made.help = kind.model_fields[key].description  # click 8.5 replaces the one that TyperArgument is given
    return made


def is_collected(kind: "type[Section]", key: str) -> bool:
    """Return whether a key's option may be repeated and its texts are parsed together."""
    value_type = plain_type(kind.model_fields[key].annotation)
    # A tuple of a fixed length is one value, such as LOW,HIGH.
    several = get_origin(value_type) is tuple and ... in get_args(value_type)
    collection = get_origin(value_type) is dict or several
    return key + BY_MODALITY in kind.model_fields or (collection and key != "raw")


def make_option(kind: "type[Section]", key: str) -> TyperOption:
    """Return the option of one key."""
    from flames_cli.config import facts_of

    field, facts = kind.model_fields[key], facts_of(kind, key)
    collected, value_type = is_collected(kind, key), plain_type(field.annotation)
    return (OptionalValue if facts.get("optional_value") else TyperOption)(
        param_decls=[key, _flags(key, field, facts.get("flag"))],
        type=_click_type(value_type, collected),
        is_flag=True if value_type is bool else None,
        default=None if collected or get_origin(value_type) is dict else field.default,
        multiple=collected,
        metavar=facts.get("metavar") or _metavar(kind, key, value_type),
        help=field.description,
        show_default=facts.get("shown") or True,
        envvar=facts.get("envvar"),
        show_envvar=bool(facts.get("envvar")),
        autocompletion=complete(facts.get("names") or closed_set(value_type)),
        rich_help_panel=facts.get("panel") or None,
    )


def _click_type(value_type: Any, collected: bool) -> Any:
    if collected:  # click divides the paths of an environment variable, but only those of its own type
        return click.Path() if get_args(value_type)[:1] == (Path,) else click.STRING
    return TYPES.get(value_type, click.STRING)


def _flags(key: str, field: "FieldInfo", flag: str | None) -> str:
    name = flag or "--" + key.replace("_", "-")
    return f"{name}/--no-{name.removeprefix('--')}" if field.default is True else name


def _metavar(kind: "type[Section]", key: str, value_type: Any) -> str | None:
    if names := closed_set(value_type):
        return f"[{'|'.join(names)}]"
    if key + BY_MODALITY in kind.model_fields:
        return "[NAME=]NUMBER"
    return None


def plain_type(annotation: Any) -> Any:
    """Return a field's type without its constraints and without None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return plain_type(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return plain_type(next(part for part in get_args(annotation) if part is not NoneType))
    return annotation


def closed_set(value_type: Any) -> tuple[str, ...]:
    """Return all values of a type, or of the elements of a tuple; empty if it is no closed set."""
    if get_origin(value_type) is tuple:
        value_type = get_args(value_type)[0]
    return get_args(value_type) if get_origin(value_type) is Literal else ()


def complete(names: str | tuple[str, ...] | None) -> Any:
    """Return what the shell calls to complete a value: a closed set, or a kind of `known_names`."""
    if isinstance(names, str):

        def complete_names(ctx: click.Context, _: list[str], incomplete: str) -> list[str]:
            found = known_names(names, Path(ctx.params.get("workspace") or DEFAULT_WORKSPACE))
            return [name for name in found if name.startswith(incomplete)]

        return complete_names
    if names:
        return lambda _context, _arguments, incomplete: [
            name for name in names if name.startswith(incomplete)
        ]
    return None
