"""Who takes part: every node says what it is, and is refused by name where it does not fit."""

from flwr.serverapp import Grid

from flames_cli.errors import FlamesError
from flames_cli.fed.exchange import exchange
from flames_cli.fed.messages import PROTOCOL, Profile, make_query, unpack_profile


def query_nodes(grid: Grid, size: int, channels: int = 1) -> list[tuple[int, Profile]]:
    """(node, profile) of every node, in order of the clients' names.

    Raises:
        FlamesError: no node, one that cannot tell what it is, speaks another protocol or holds images of
            another size or number of channels, or two with one name.
    """
    found: dict[str, tuple[int, Profile]] = {}
    for reply in exchange(grid, (make_query(node) for node in grid.get_node_ids())):
        node = reply.metadata.src_node_id
        if reply.has_error():
            raise FlamesError(f"node {node} cannot join: {reply.error.reason}")
        try:
            profile = unpack_profile(reply)
        except (KeyError, TypeError) as error:
            raise FlamesError(
                f"node {node} cannot join: its profile cannot be read ({error}); "
                "install one version everywhere"
            ) from error
        if problem := _refuse_profile(profile, size, channels, found):
            raise FlamesError(f"client {profile.client} cannot join: {problem}")
        found[profile.client] = (node, profile)
    if not found:
        raise FlamesError("no client joined the federation; expected at least one")
    return [found[name] for name in sorted(found)]


def _refuse_profile(
    profile: Profile, size: int, channels: int, found: dict[str, tuple[int, Profile]]
) -> str | None:
    if profile.protocol != PROTOCOL:
        return (
            f"it speaks protocol {profile.protocol}, this server {PROTOCOL}; install one version everywhere"
        )
    if profile.size != size:
        return f"its images are {profile.size}×{profile.size}, this federation's {size}×{size}"
    if profile.channels != channels:
        return (
            f"its images are of {profile.channels} channel(s), this federation's of {channels}; "
            "preprocess all with the same --channels"
        )
    if profile.client in found:
        return "another node has that name"
    return None
