"""Types of the options' values, with the checks that their types alone cannot make."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from flames_cli.core.imaging.label_names import BACKGROUND, split_labels
from flames_cli.core.imaging.small_lesion_rule import RULE_FORM, SmallLesionRule, parse_small_lesion_rule
from flames_cli.learn.train_options import ENOUGH_PATIENTS


def _check_window_size(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise PydanticCustomError("window", "Input should be two numbers, LOW,HIGH, such as -160,240")
    return value


def _check_window(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise PydanticCustomError("window", "Input should be LOW,HIGH with LOW below HIGH, such as -160,240")
    return window


def _read_rule(value: Any) -> SmallLesionRule:
    if isinstance(value, SmallLesionRule):
        return value
    try:
        return parse_small_lesion_rule(str(value))
    except ValueError as error:
        raise PydanticCustomError("rule", f"Input should be {RULE_FORM}") from error


def _read_labels(value: Any) -> Any:
    """Return the labels of one text, or of several."""
    items = value if isinstance(value, list | tuple) else [value]
    texts = [str(item) for item in items if isinstance(item, str | int)]
    labels = split_labels(",".join(texts))
    if (items and not labels) or len(texts) < len(items):
        raise PydanticCustomError("labels", "Labels should be separated by commas, such as 2,3")
    if BACKGROUND & {*labels}:
        raise PydanticCustomError("labels", "Labels should be those of tumour; 0 is the background")
    return labels


def _read_names(value: Any) -> Any:
    """Return the names of one text with commas, or of several."""
    items = value if isinstance(value, list | tuple) else [value]
    names = (name.strip() for item in items for name in str(item).split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _read_mask_threshold(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == "half":
        return "half"
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise PydanticCustomError(
            "mask_threshold",
            "A threshold should be HALF, or a number above 0",
        )
    return number


def _read_threshold(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < 1:
        raise PydanticCustomError("threshold", "A threshold should be auto, or a number above 0 and below 1")
    return number


def _read_seeds(value: Any) -> Any:
    """Return the seeds of one text, such as 0,1,2, or of several texts or numbers."""
    items = value if isinstance(value, list | tuple) else [value]
    parts = [part.strip() for item in items for part in str(item).split(",") if part.strip()]
    if (items and not parts) or not all(part.isdecimal() for part in parts):
        raise PydanticCustomError("seeds", "Seeds should be integers separated by commas, such as 0,1,2")
    if repeated := [part for number, part in enumerate(parts) if int(part) in map(int, parts[:number])]:
        raise PydanticCustomError("seeds", f"Seeds should differ; {repeated[0]} is repeated")
    return [int(part) for part in parts]


def _check_split(value: Any) -> Any:
    """Accept an integer of 1 or more, or "site"; a union would report one mistake as two."""
    if value == "site":
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise PydanticCustomError("split", "Input should be a valid integer or 'site'")
    if value < 1:
        raise PydanticCustomError("split", "Input should be greater than or equal to 1, or 'site'")
    return value


def _check_round(value: Any) -> Any:
    """Accept a round of 1 or more, as a number or a text, or the name of a rule."""
    names = get_args(get_args(Wanted)[0])
    if value is None or (isinstance(value, str) and value in names):
        return value
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise PydanticCustomError("round", f"A round should be {', '.join(names)} or a number of 1 or more")
    return number


def _check_factor(value: float) -> float:
    if value and value <= 1:
        raise PydanticCustomError("factor", "Input should be greater than 1, or 0 for no limit")
    return value


def _check_fold(text: str) -> str:
    match = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", text)
    k, n = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1 <= k <= n or n < 2:
        raise PydanticCustomError("fold", "Input should be K/N with K from 1 to N and N of 2 or more")
    return text


Wanted = Literal["best", "best-small", "last"] | int
"""Round that a user asks for."""

DEFAULT_ROUND = f"best from {ENOUGH_PATIENTS} validation patients on, else last"
"""Text that the help shows as the default of --round."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
MAX_NAME = 64
"""Largest number of characters of a name."""

NAME_RULE = (
    f"a name should have at most {MAX_NAME} letters, digits, '.', '_' and '-', and begin with a letter or "
    "digit"
)
"""Text of the error of a value that does not match the pattern of a name, the only pattern of all options."""

NAME_PATTERN = rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}"
"""Regular expression of a complete name."""

Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
FoldSet = Annotated[str, Field(pattern=rf"^({NAME_PATTERN})?$")]
"""Name of a set of folds; empty: the only one."""
Factor = Annotated[float, AfterValidator(_check_factor)]
Rate = Annotated[float, Field(gt=0, le=100)]
Split = Annotated[int | Literal["site"], BeforeValidator(_check_split)]
Round = Annotated[Wanted, BeforeValidator(_check_round)]
Threshold = Annotated[Literal["auto"] | float, BeforeValidator(_read_threshold)]
Fold = Annotated[str, AfterValidator(_check_fold)]
Sites = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]
Files = Annotated[
    tuple[Path, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str | Path) else value),
]
Labels = Annotated[tuple[str, ...], BeforeValidator(_read_labels)]
Names = Annotated[tuple[str, ...], BeforeValidator(_read_names)]
MaskThreshold = Annotated[Literal["half"] | float, BeforeValidator(_read_mask_threshold)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_read_seeds)]
Window = Annotated[tuple[float, float], BeforeValidator(_check_window_size), AfterValidator(_check_window)]
Rule = Annotated[SmallLesionRule, BeforeValidator(_read_rule), PlainSerializer(str)]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]
