"""Parts: scores divided into the lines of the tables, by model and organ; unseen sites are separate, and all
are pooled."""

from collections.abc import Sequence
from dataclasses import dataclass

from flames_cli.stages.evaluate.scoring import ModelUnderTest, Score

ALL_ORGANS = "all organs"
POOLED = {"client_test": "all clients", "server_test": "all models"}
"""Label of the line of all models together, by split; a client's name cannot contain a space."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A model with its scores, and the scores of the other run's model on the same cases."""

    model: ModelUnderTest
    scores: Sequence[Score]
    compared: Sequence[Score] | None = None
    """None if there is no other run, or if it has no such model."""
    compared_label: str = ""
    """Label of that model in its own run."""


@dataclass(frozen=True, slots=True)
class Part:
    """Cases of one line of a table."""

    label: str
    modality: str
    """Empty if models of several modalities are pooled."""
    organ: str
    scores: Sequence[Score]
    compared: Sequence[Score] | None
    """Scores of the same cases, in the same order."""
    unseen: str = ""
    """The unseen sites of the cases, which no client has trained on; else empty."""

    def pairs(self) -> list[tuple[Score, Score]]:
        """Return the (this run's, other run's) scores of every case; an empty list without another run."""
        return [] if self.compared is None else list(zip(self.scores, self.compared, strict=True))


def divide(scored: Scored) -> list[Part]:
    """Return the model's cases all together, then by organ if it has several.

    An unseen site is named next to its organ: its cases are never pooled with those of other sites.
    """
    organs = list(dict.fromkeys(score.organ for score in scored.scores))
    if not organs:
        return []
    return [_make_part(scored, organs), *(_make_part(scored, [organ]) for organ in organs if len(organs) > 1)]


def _make_part(scored: Scored, organs: Sequence[str]) -> Part:
    """Return the model's cases of `organs`, in their order."""
    model, compared = scored.model, scored.compared
    return Part(
        label=model.label,
        modality=model.modality,
        organ=_name_organs(organs, model.unseen),
        scores=_of_organs(scored.scores, organs),
        compared=None if compared is None else _of_organs(compared, organs),
        unseen=model.unseen,
    )


def pool(scored: Sequence[Scored]) -> list[Part]:
    """Return the cases of all models of a split together, if there are several models; then those of unseen
    sites.

    Models that share a test set are not pooled, so no case counts twice. There is no comparison unless every
    model has its counterpart in the other run.
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


def _of_organs(scores: Sequence[Score], organs: Sequence[str]) -> list[Score]:
    return [score for score in scores if score.organ in organs]
