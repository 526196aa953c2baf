"""Who must be there for a round, and how long the server waits for them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flames_cli.fed.messages import Profile


@dataclass(frozen=True, slots=True)
class Participation:
    """How many clients a round needs, and for how long it waits."""

    min_clients: int = 1
    """Clients of every modality that takes part."""
    min_clients_by_modality: Mapping[str, int] = field(default_factory=dict)
    """Where a modality needs another number; a modality named here takes part from the first round on."""
    expected_nodes: int = 0
    """Nodes that the first round waits for."""
    join_timeout_s: float = 0.0
    """For enough clients, before every round."""
    all_must_join: bool = True
    """Whether a node that cannot join ends the run; else the others go on without it."""
    round_timeout_s: float | None = None
    """After which a round closes without the late; None: it waits for all."""
    in_flight: int | None = None
    """Clients asked at once; None: all."""

    def shortage(self, present: Iterable[Profile], known: Iterable[Profile]) -> list[str]:
        """What a round lacks, in words; empty where enough are there.

        Args:
            present: clients that can be asked now.
            known: all that have joined so far, gone or not.
        """
        counts = Counter(profile.modality for profile in present)
        modalities = dict.fromkeys((*self.min_clients_by_modality, *(profile.modality for profile in known)))
        return [
            f"{need} of {modality} are needed, {counts[modality]} can be asked"
            for modality in modalities
            if counts[modality] < (need := self.min_clients_by_modality.get(modality, self.min_clients))
        ]


ALL_AT_ONCE = Participation()
"""Every node is there from the start, as in one process."""
