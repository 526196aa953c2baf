"""Scores divided into the lines of the tables: by model and organ, unseen sites apart, and pooled."""

from collections.abc import Sequence
from dataclasses import dataclass

from flames_cli.stages.evaluate.scoring import ModelUnderTest, Score

ALL_ORGANS = "all organs"
POOLED = {"client_test": "all clients", "server_test": "all models"}
"""By split: what the line of all its models together is called; no client's name has a space."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A model with its scores, and those of the other run's model on the same cases."""

    model: ModelUnderTest
    scores: Sequence[Score]
    compared: Sequence[Score] | None = None
    """None: there is no other run, or it has no such model."""
    compared_label: str = ""
    """Of that model in its own run."""


@dataclass(frozen=True, slots=True)
class Part:
    """The cases of one line of a table."""

    label: str
    modality: str
    """Empty where models of several are pooled."""
    organ: str
    scores: Sequence[Score]
    compared: Sequence[Score] | None
    """Of the same cases, in the same order."""
    unseen: str = ""
    """The sites that no client has seen and that the cases are from; else empty."""

    def pairs(self) -> list[tuple[Score, Score]]:
        """(this run's, the other's) score of every case; none without another run."""
        return [] if self.compared is None else list(zip(self.scores, self.compared, strict=True))


def divide(scored: Scored) -> list[Part]:
    """The model's cases all together, then by organ where it has several.

    An unseen site is named beside its organ: its cases are never pooled with those of other sites.
    """
    model, scores, compared = scored.model, scored.scores, scored.compared
    organs = list(dict.fromkeys(score.organ for score in scores))
    if not organs:
        return []
    who = (model.label, model.modality)
    whole = Part(*who, _name_organs(organs, model.unseen), scores, compared, model.unseen)
    if len(organs) == 1:
        return [whole]
    return [whole] + [
        Part(
            *who,
            _name_organs([organ], model.unseen),
            _of_organ(scores, organ),
            None if compared is None else _of_organ(compared, organ),
            model.unseen,
        )
        for organ in organs
    ]


def pool(scored: Sequence[Scored]) -> list[Part]:
    """The cases of all models of a split together, where they are several; then those of unseen sites.

    None where models share a test set: no case counts twice. There is no comparison unless every model has
    its counterpart in the other run.
    """
    tested = [one for one in scored if one.scores]
    apart = ([one for one in tested if not one.model.unseen], [one for one in tested if one.model.unseen])
    return [_pool(together) for together in apart if len(together) > 1 and _each_once(together)]


def _each_once(scored: Sequence[Scored]) -> bool:
    cases = [(score.dataset, score.case) for one in scored for score in one.scores]
    return len(set(cases)) == len(cases)


def _pool(scored: Sequence[Scored]) -> Part:
    modalities = {one.model.modality for one in scored}
    unseen = ", ".join(dict.fromkeys(one.model.unseen for one in scored if one.model.unseen))
    others = [one.compared for one in scored if one.compared is not None]
    return Part(
        label=POOLED[scored[0].model.split],
        modality=modalities.pop() if len(modalities) == 1 else "",
        organ=_name_organs(list(dict.fromkeys(case.organ for one in scored for case in one.scores)), unseen),
        scores=[case for one in scored for case in one.scores],
        compared=[case for other in others for case in other] if len(others) == len(scored) else None,
        unseen=unseen,
    )


def _name_organs(organs: Sequence[str], unseen: str) -> str:
    name = ALL_ORGANS if len(organs) > 1 else organs[0]
    return f"{name}, {unseen} (unseen)" if unseen else name


def _of_organ(scores: Sequence[Score], organ: str) -> list[Score]:
    return [score for score in scores if score.organ == organ]
