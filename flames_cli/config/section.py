"""Declaration of an option, and the options that all commands share."""

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from flames_cli.config.values import NAME_RULE, Files, Seed
from flames_cli.errors import FlamesError
from flames_cli.learn.train_options import FEDERATION, MODEL, STRATEGY, TRAINING
from flames_cli.store import DEFAULT_WORKSPACE

TRUST, ENGINE, RUN_PANEL, WEIGHTS = "Trust", "Engine", "Run", "A model without a run"
PANELS = ("", WEIGHTS, TRAINING, MODEL, STRATEGY, FEDERATION, TRUST, ENGINE, RUN_PANEL)
"""Panels of `--help`, in their order; the first one has the options that matter most."""


def option(default: Any, help: str, panel: str = "", **extra: Any) -> Any:
    """Declare one option of a command: its default, help text and panel.

    Args:
        default: value where neither the file nor the command line gives one.
        help: text of `--help`, one or more sentences.
        panel: panel of `--help`, one of PANELS.
        extra: further facts for the command line and for resumed runs.
            `flag`: name of the option, if it is not the key's.
            `shown`: text that `--help` shows as the default.
            `metavar`: form of the value.
            `names`: kind of names that the value is one of: strategies, models, datasets, partitions, runs,
                runs and families, or these with evaluations (runs and evaluations).
            `optional_value`: True if the option may be given without its value, which is then empty.
            `envvar`: environment variable that also sets the option.
            `may_change`: True if the option may differ when a run is resumed.
            `stored`: False if the option is not stored with the run.
            `argument`: True if the values are typed without the name of an option.
    """
    return Field(default=default, description=help, json_schema_extra={"panel": panel, **extra})


class _Boolean:
    """True or false where a number or a text is expected.

    Python counts true and false among the numbers, and pydantic would turn `rounds = true` into 1. This is
    no number, and looks like the boolean in a message.
    """

    def __init__(self, value: bool) -> None:
        self._value = value

    def __repr__(self) -> str:
        return repr(self._value)


def _without_booleans(value: Any) -> Any:
    """Return `value` with a `_Boolean` for each true and false in it."""
    if isinstance(value, bool):
        return _Boolean(value)
    if isinstance(value, dict):
        return {key: _without_booleans(part) for key, part in value.items()}
    return [_without_booleans(part) for part in value] if isinstance(value, list | tuple) else value


def _takes_booleans(annotation: Any) -> bool:
    return annotation is bool or any(map(_takes_booleans, get_args(annotation)))


SYNONYMS = {"gpu": "cuda", "nvidia": "cuda", "metal": "mps", "gray": "grey"}
"""Words that users may write for a known word to which they are not similar, or less than to another."""


def suggest(word: object, known: Iterable[str]) -> str:
    """Return ", did you mean …?" with the known word nearest to `word`; "" if none is near."""
    words = [*known]
    same = SYNONYMS.get(str(word).lower())
    near = [same] if same in words else get_close_matches(str(word), words, n=1)
    return f", did you mean {near[0]}?" if near else ""


class WrongOptions(FlamesError):
    """Options of a section are wrong; the message has every problem as `field: message`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _describe(error: ValidationError, known: Iterable[str]) -> list[str]:
    """Return each problem that pydantic found, as `field: message (got value)`."""
    found = {}
    for item in error.errors():
        # A union of int and float reports one mistake twice.
        place = [part for part in item["loc"] if part not in ("int", "float")]
        field = ".".join(part for part in place if isinstance(part, str))
        message = f"{item['msg'][0].lower()}{item['msg'][1:]}"
        if item["type"] == "extra_forbidden":
            message += suggest(field, known)
        if item["type"] == "literal_error":
            message += suggest(item["input"], re.findall("'([^']*)'", item["ctx"]["expected"]))
        if item["type"] == "string_pattern_mismatch":
            message = NAME_RULE
        message += f" (got {_shown(item['input'])})"
        found[(*place,)] = f"{field}: {message}"
    return list(found.values())


def _shown(value: Any) -> str:
    """Return a rejected value as a message shows it: the texts of a repeatable option without brackets."""
    if isinstance(value, tuple | list) and value and all(isinstance(part, str) for part in value):
        return ", ".join(map(repr, value))
    return repr(value)


def _plain(kind: "type[Section]", key: str, value: Any) -> Any:
    """Return a value of Python code as an option's type takes it: the numbers of a range, an array or a NumPy
    scalar, the path of an object that is one, and one text of a list that is given alone as a list."""
    if hasattr(value, "tolist") and hasattr(value, "ndim"):
        value = value.tolist()
    if isinstance(value, range):
        value = list(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, list | tuple):
        return tuple(_plain(kind, "", one) for one in value)
    return (value,) if isinstance(value, str) and _takes_several(kind, key) else value


def _takes_several(kind: "type[Section]", key: str) -> bool:
    """Return whether a key has a list, and no function of its own that reads one text as a list."""
    field = kind.model_fields.get(key)
    if field is None or any(isinstance(one, BeforeValidator) for one in field.metadata):
        return False
    return get_origin(field.annotation) is tuple and ... in get_args(field.annotation)


class Section(BaseModel):
    """Options that all commands share; unknown keys are rejected.

    Raises:
        WrongOptions: an option is wrong; the one message has all problems.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    no_option: ClassVar[tuple[str, ...]] = ()
    """Keys that the command has no option for."""

    workspace: Path = option(
        DEFAULT_WORKSPACE, "Folder of all artifacts.", RUN_PANEL, envvar="FLAMES_WORKSPACE", stored=False
    )
    plugins: Files = option(
        (),
        "Python file with plug-ins of yours, for this machine; may be repeated. Its code runs with your "
        "rights.",
        RUN_PANEL,
        flag="--plugin",
        shown="none",
        metavar="FILE.py",
        envvar="FLAMES_PLUGINS",
        stored=False,
    )
    seed: Seed = option(0, "Seed of everything random; the same seed gives the same bytes.", RUN_PANEL)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**{key: _plain(type(self), key, value) for key, value in values.items()})
        except ValidationError as error:
            raise WrongOptions(_describe(error, type(self).model_fields)) from None

    @model_validator(mode="before")
    @classmethod
    def _reject_booleans(cls, values: Any) -> Any:
        """Return `values`, in which a boolean in place of a number or a text fails the check of its type."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            key: value
            if key in fields and _takes_booleans(fields[key].annotation)
            else _without_booleans(value)
            for key, value in values.items()
        }
