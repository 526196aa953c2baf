"""Whether a node fits a federation, by what it says of itself."""

from collections.abc import Collection
from dataclasses import dataclass

from flames_cli.fed.messages import PROTOCOL, Profile
from flames_cli.store.schema import SHARD


@dataclass(frozen=True, slots=True)
class Requirements:
    """What every client's images must be."""

    size: int
    channels: int

    def rejection_reason(self, profile: Profile, registered: str, taken: Collection[str]) -> str | None:
        """Why a client cannot join, or None.

        Args:
            profile: what it says of itself.
            registered: the name that its key is registered for; empty where nodes have no keys.
            taken: names of the clients that are there.
        """
        if profile.protocol != PROTOCOL:
            return (
                f"it speaks protocol {profile.protocol}, this server {PROTOCOL}; "
                "install the same version everywhere"
            )
        if profile.format != SHARD.version:
            return (
                f"its shard has version {profile.format} of {SHARD.name}, this server reads {SHARD.version}; "
                "install the same version everywhere and run `flames partition` again"
            )
        if profile.size != self.size:
            return (
                f"its images are {profile.size}×{profile.size}, this federation's {self.size}×{self.size}; "
                "preprocess all with the same --size"
            )
        if profile.channels != self.channels:
            return (
                f"its images are of {profile.channels} channel(s), this federation's of {self.channels}; "
                "preprocess all with the same --channels"
            )
        if profile.n_train <= 0 or profile.n_val < 0:
            return f"it has {profile.n_train} training and {profile.n_val} validation images, expected some"
        if registered and registered != profile.client:
            return f"its key is registered as {registered}; start it with that site's folder"
        return "another node has that name" if profile.client in taken else None
