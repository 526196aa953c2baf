"""The check of a node's profile: a node that does not fit the federation may not join."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from flames_cli.fed.messages import PROTOCOL, Profile
from flames_cli.plugins.packages import parse_packages, pin_text
from flames_cli.store.schema import SHARD


@dataclass(frozen=True, slots=True)
class Requirements:
    """Size and number of channels that the images of every client must have, and their smallest number."""

    size: int
    channels: int
    smallest_batch: int = 1
    """Smallest number of images that the model can train on in one step."""
    plugins: Mapping[str, str] = field(default_factory=dict)
    """Packages whose plug-ins every client needs, name → version."""
    secure: bool = False
    """True: the run has secure aggregation."""

    def rejection_reason(self, profile: Profile, registered: str, taken: Collection[str]) -> str | None:
        """Return why a client may not join; None if it may.

        Args:
            profile: the node's own description.
            registered: the client name for which the node's key is registered; empty if nodes have no keys.
            taken: names of the other clients that are present.
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
        if profile.secure_only and not self.secure:
            return (
                "its owner takes part only in runs with secure aggregation, and this run has none; federate "
                "with --secure-aggregation, or without this site"
            )
        if problem := package_problem(self.plugins, parse_packages(profile.plugins)):
            return problem
        if profile.size != self.size:
            return (
                f"its images are {profile.size}×{profile.size}, this federation's {self.size}×{self.size}; "
                "preprocess all with the same --size"
            )
        if profile.channels != self.channels:
            return (
                f"its images have {profile.channels} channel(s), this federation's have {self.channels}; "
                "preprocess all with the same --channels"
            )
        if profile.n_train <= 0 or profile.n_val < 0:
            return (
                f"it has {profile.n_train} training and {profile.n_val} validation images, "
                "expected at least 1 training image; run `flames partition` again there"
            )
        if profile.n_train < self.smallest_batch:
            return (
                f"it has {profile.n_train} training image, and this model needs {self.smallest_batch} in a "
                f"step at {self.size}×{self.size}, since BatchNorm gets one value of an image at its deepest "
                "level; add images there, preprocess all with a larger --size, or federate with --norm group"
            )
        if registered and registered != profile.client:
            return f"its key is registered as {registered}; start it with that site's folder"
        if profile.client in taken:
            return "another node has the same name; stop one of them, or give it another name"
        return None


def package_problem(needed: Mapping[str, str], usable: Mapping[str, str]) -> str:
    """Return which package with plug-ins a site cannot use, and what its owner can do; empty if none.

    Args:
        needed: packages that the run needs, name → version.
        usable: packages that the site's owner allows: name → version, or "" if the allowed version is not
            installed there.
    """
    for name, version in needed.items():
        pin = pin_text(name, version)
        if name not in usable:
            return (
                f"its owner does not allow plug-in package {name}, and this run needs version {version}; "
                f"run pip install {pin} and `flames deploy allow {pin}` there, and restart its node"
            )
        if not usable[name]:
            return (
                f"it allows plug-in package {name} and has not installed the allowed version, and this run "
                f"needs {version}; run pip install {pin} and `flames deploy allow {pin}` there, and restart "
                "its node"
            )
        if usable[name] != version:
            return (
                f"it has version {usable[name]} of plug-in package {name}, and this run needs {version}; "
                f"run pip install {pin} and `flames deploy allow {pin}` there, and restart its node"
            )
    return ""
