"""Identities of sites for secure aggregation: a site's own, and those of other sites that its owner pins.

The owners of the sites compare the identities outside of FLAMES, for example by telephone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flames_cli.errors import FlamesError
from flames_cli.secagg.session import FEWEST
from flames_cli.stages.deploy.check_files import check_private
from flames_cli.stages.deploy.findings import Finding, ok, problem, problem_of, warning
from flames_cli.store.deployment.folders import Site, check_peers, write_site
from flames_cli.store.deployment.identity import ensure_identity, identity_text

NO_PEERS = (
    "no other site's identity is pinned: with secure aggregation, a dishonest server could give this site "
    "keys of its own in place of the other hospitals' keys, and read this site's weights"
)


def site_identity(site: Site) -> str:
    """Return the public identity of `site`, whose private key is made if there is none.

    Raises:
        FlamesError: the key cannot be written or read.
    """
    ensure_identity(site.identity)
    return identity_text(site.identity)


def pin_peers(site: Site, typed: Sequence[str]) -> Site:
    """Pin other sites' identities, each typed as CLIENT=IDENTITY, at `site`.

    Raises:
        FlamesError: one has another form, or is this site's own.
    """
    new = dict(_parse(text) for text in typed)
    if site.name in new:
        raise FlamesError(f"{site.name} is this site itself, expected other sites; pin its identity at those")
    return _with_peers(site, {**site.peers, **new})


def unpin_peers(site: Site, typed: Sequence[str]) -> Site:
    """Remove the identities of the clients `typed`, each as CLIENT or CLIENT=IDENTITY, from `site`.

    Raises:
        FlamesError: one is not pinned.
    """
    left = dict(site.peers)
    for name in (text.partition("=")[0].strip() for text in typed):
        if left.pop(name, None) is None:
            raise FlamesError(
                f"{name} is not pinned at this site, expected one of {', '.join(site.peers) or 'none'}; "
                "nothing was changed"
            )
    return _with_peers(site, left)


def _with_peers(site: Site, peers: dict[str, str]) -> Site:
    changed = replace(site, peers=check_peers(peers))
    write_site(changed)
    return changed


def _parse(text: str) -> tuple[str, str]:
    name, separator, identity = (part.strip() for part in text.partition("="))
    if not separator:
        raise FlamesError(
            f"{text!r} is no CLIENT=IDENTITY, expected such as hospital-b=ed25519:…; copy the line that "
            "`flames deploy identity` shows at that site"
        )
    return name, identity


def check_identity(site: Site) -> Iterator[Finding]:
    """Check the site's identity, its pinned peers, and whether both fit what its owner requires."""
    if not site.identity.exists():
        yield ok(f"{site.identity.name} does not exist yet: the node makes it at its first start")
    else:
        try:
            yield ok(f"the identity of {site.name} is {identity_text(site.identity)}")
        except FlamesError as error:
            yield problem_of(error)
        yield from check_private(site.identity)
    yield from _check_copies(site)
    yield _check_peers(site)


def _check_copies(site: Site) -> Iterator[Finding]:
    """Warn of a site's folder in that of its server, whose operator must not have the identity."""
    if (site.path.resolve().parent.parent / "deployment.toml").is_file():
        yield warning(
            f"{site.name}'s folder is in the server's folder: the server's operator can read identity.key",
            "run the node on the site's own machine, with a copy of the folder without identity.key",
        )


def _check_peers(site: Site) -> Finding:
    if not site.peers:
        if site.secure_only:
            return warning(
                f"secure-aggregation is required, and {NO_PEERS}", "pin them with `flames deploy pin`"
            )
        return ok("no other site's identity is pinned (`flames deploy pin`)")
    if len(site.peers) + 1 < FEWEST:
        return problem(
            f"the identity of {', '.join(site.peers)} alone is pinned, and a secure sum has "
            f"{FEWEST} clients or more",
            "pin the other sites with `flames deploy pin`, or remove this pin with its option --remove",
        )
    return ok(
        f"a secure sum has only these other sites: {', '.join(site.peers)} (their identities are pinned)"
    )
