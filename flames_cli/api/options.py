"""Options of a public function: a configuration, a TOML file, or keywords; and their list in `help()`."""

import inspect
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from flames_cli.config import PANELS, Section, check_section, facts_of, load_section
from flames_cli.errors import FlamesError
from flames_cli.stages.entrance import check_options, check_workspace, set_up_process
from flames_cli.store import DEFAULT_WORKSPACE

SectionT = TypeVar("SectionT", bound=Section)
Function = TypeVar("Function", bound=Callable[..., Any])
PathLike: TypeAlias = str | os.PathLike[str]

WORKSPACE_VARIABLE = "FLAMES_WORKSPACE"
"""Environment variable that names the workspace where no option does, as on the command line."""

WIDTH = 100
"""Largest number of characters in a line of a docstring."""


def make_config(
    kind: type[SectionT], config: SectionT | PathLike | None, options: Mapping[str, Any]
) -> SectionT:
    """Return the options of one call: defaults, then `config`, then the keywords; and set up the process.

    Args:
        kind: class of the configuration.
        config: a configuration, or the path of a TOML file as for --config.
        options: keywords of the call, which replace those of `config`.

    Raises:
        FlamesError: an option is wrong; the one message has every problem.
    """
    set_up_process()
    if isinstance(config, kind):
        known = {key: getattr(config, key) for key in config.model_fields_set}
        made = check_section(kind, {**_from_environment(), **known, **options})
    elif config is None or isinstance(config, str | os.PathLike):
        made = load_section(kind, {**_from_environment(), **options}, Path(config) if config else None)
    else:
        raise FlamesError(
            f"got {type(config).__name__} as the configuration, expected {kind.__name__} or the path of a "
            "TOML file; pass options by name"
        )
    check_options(made)
    return made


def find_workspace(workspace: PathLike | None) -> Path:
    """Return the folder of a workspace; None: that of the environment variable, or the default.

    Raises:
        FlamesError: it is a file.
    """
    set_up_process()
    path = Path(workspace or os.environ.get(WORKSPACE_VARIABLE) or DEFAULT_WORKSPACE)
    check_workspace(path)
    return path


def _from_environment() -> dict[str, Any]:
    workspace = os.environ.get(WORKSPACE_VARIABLE)
    return {"workspace": workspace} if workspace else {}


def takes(kind: type[Section], *left_out: str) -> Callable[[Function], Function]:
    """Give a function that takes `config` and `**options` a signature and a docstring with every option.

    Args:
        kind: class of its configuration.
        left_out: options that the function does not have.
    """

    def describe(function: Function) -> Function:
        keys = [key for key in _by_panel(kind) if key not in left_out]
        own = [one for one in inspect.signature(function).parameters.values() if one.kind != one.VAR_KEYWORD]
        keywords = (
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=kind.model_fields[key].default)
            for key in keys
        )
        setattr(function, "__signature__", inspect.Signature([*own, *keywords]))  # noqa: B010
        lines = (line for key in keys for line in _option_lines(kind, key))
        function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Options:", *lines, ""])
        return function

    return describe


def _by_panel(kind: type[Section]) -> list[str]:
    """Return the keys of a section as `--help` orders them, the shared ones last."""
    own = [key for key in kind.model_fields if key not in Section.model_fields and key not in kind.no_option]
    keys = [*own, *(key for key in Section.model_fields if key not in kind.no_option)]
    return sorted(keys, key=lambda key: PANELS.index(facts_of(kind, key)["panel"]))


def _option_lines(kind: type[Section], key: str) -> Iterator[str]:
    field, shown = kind.model_fields[key], facts_of(kind, key).get("shown")
    value = str(field.default) if isinstance(field.default, Path) else repr(field.default)
    default = f" Default: {shown or value}."
    described = f"{field.description}".replace("see the list below", "`flames federate --help` lists them")
    text = f"{key}: {described}{default}".replace("\\[", "[")
    yield from textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="        ")
