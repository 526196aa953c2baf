"""Preparation of a client's images, which must be the same at all clients of a modality."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from flames_cli.core.imaging.intensity_rule import IntensityRule

Plane = Literal["axial", "coronal", "sagittal"]
MaskResize = Literal["aligned", "paper"]
Empty = Literal["skip", "keep"]

MOST_RULES = 64
"""Largest number of entries of each kind that a client may state."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """Rules by which a client's images were prepared, each once; an empty tuple: not known."""

    intensities: tuple[IntensityRule, ...] = ()
    planes: tuple[Plane, ...] = ()
    """Planes of the slices of its volumes; empty also if it has still images only."""
    mask_resize: tuple[MaskResize, ...] = ()
    empty: tuple[Empty, ...] = ()
    """Rules for images without a lesion: left out, or kept."""

    def __post_init__(self) -> None:
        """Check the numbers, which may come from another machine.

        Raises:
            ValueError: a number is not possible, or there are too many rules.
        """
        if max(map(len, (self.intensities, self.planes, self.mask_resize, self.empty))) > MOST_RULES:
            raise ValueError(f"more than {MOST_RULES} rules of one kind")
        for rule in self.intensities:
            if rule.window is not None and not -1e9 < rule.window[0] < rule.window[1] < 1e9:
                raise ValueError(f"the window {rule.window[0]:g} to {rule.window[1]:g}")
            if not 0 < rule.percentile <= 100:
                raise ValueError(f"the percentile {rule.percentile:g}")


NOT_KNOWN = Preparation()


@dataclass(frozen=True, slots=True)
class _Kind:
    """Kind of rule, for messages."""

    field: str
    name: str
    option: str


_KINDS = (
    _Kind("intensities", "intensities", "--window, --percentile and --percentile-of"),
    _Kind("planes", "plane of the slices", "--plane"),
    _Kind("mask_resize", "resizing of masks", "--mask-resize"),
    _Kind("empty", "images without a lesion", "--empty"),
)


def describe_differences(clients: Iterable[tuple[str, str, Preparation]]) -> list[str]:
    """Return a note for each modality and each kind of rule in which its clients differ.

    Args:
        clients: name, modality and preparation of each client; a kind that a client does not state is not
            compared.
    """
    listed = list(clients)
    notes = []
    for modality in dict.fromkeys(modality for _, modality, _ in listed):
        for kind in _KINDS:
            stated = {
                name: ", ".join(sorted(map(str, rules)))
                for name, of, preparation in listed
                if of == modality and (rules := getattr(preparation, kind.field))
            }
            if len(set(stated.values())) > 1:
                notes.append(_note(modality, kind, stated))
    return notes


def _note(modality: str, kind: _Kind, stated: dict[str, str]) -> str:
    by_rule: dict[str, list[str]] = {}
    for name, rules in stated.items():
        by_rule.setdefault(rules, []).append(name)
    found = "; ".join(f"{', '.join(names)}: {rules}" for rules, names in by_rule.items())
    return (
        f"clients of {modality} prepared their images differently ({kind.name}: {found}), expected the same "
        "for all, since one model learns from all of them; agree on one rule, and preprocess with the same "
        f"{kind.option} at each of them"
    )
