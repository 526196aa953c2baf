"""A site's node: Flower's SuperNode with the guard, which trains on the site's own shards."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from flames_cli.core.addresses import split_address
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.node import SHARD_SEPARATOR, NodeSettings, read_profile
from flames_cli.flower.processes import child_environment, free_port, start, stop
from flames_cli.flower.toml_pairs import config_pairs
from flames_cli.stages.deploy.foreground import Tell, undisturbed, until_told_to_end
from flames_cli.stages.deploy.node_log import LogReader
from flames_cli.store.deployment.folders import Site, check_site_name, read_site

LOOPBACK = "127.0.0.1"
LOG = "node.log"

LOOK_SECONDS = 0.5
RETRY_SECONDS = (5.0, 10.0, 10.0, 10.0, 20.0, 40.0, 60.0)
"""Before the node is started anew after it ended by itself: the first time, the second …, all later ones."""


def find_site(
    folder: Path | None, superlink: str | None, stand_in: str | None = None, name: str | None = None
) -> Site:
    """The site that a node is for.

    Args:
        folder: that the server gave; None: the current one.
        superlink: HOST:PORT, where it is another than the folder says.
        stand_in: the name of a site without a folder, for a trial without keys; None: it needs one.
        name: another one for it, as its owner has typed.

    Raises:
        FlamesError: there is no such folder, or a name or an address is missing or cannot be.
    """
    if superlink is not None:
        split_address(superlink)
    if stand_in is not None and folder is None and not (Path() / "site.toml").is_file():
        return _stand_in(superlink, name or stand_in)
    if name is not None:
        raise FlamesError("--name is for --insecure without a site's folder, whose site.toml has the name")
    site = read_site(folder or Path())
    return replace(site, superlink=superlink or site.superlink)


def _stand_in(superlink: str | None, name: str) -> Site:
    if superlink is None:
        raise FlamesError("--insecure without a site's folder needs --superlink HOST:PORT")
    return Site(Path(f"flames-node-{check_site_name(name)}"), name, superlink)


def settings_for(site: Site, settings: NodeSettings) -> NodeSettings:
    """`settings`, as the owner has typed them, completed by what the site's folder says."""
    return replace(
        settings,
        shards=tuple(path.resolve() for path in settings.shards),
        client=site.name,
        client_state=site.client_state.resolve(),
        private=True,
    )


def join(
    site: Site,
    settings: NodeSettings,
    insecure: bool,
    tell: Tell,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Run the node of `site` until a signal ends it; it connects again for as long as it takes.

    Args:
        site: of `find_site`.
        settings: of `settings_for`.
        insecure: without TLS and keys.
        tell: told what happens.
        pause: waits that many seconds.

    Raises:
        FlamesError: a shard or a file of the site cannot be used.
    """
    read_profile(settings)
    if not insecure:
        _check_files(site)
    log = site.path / LOG
    with until_told_to_end():
        n_failed = 0
        while True:
            reader = LogReader(log, site.superlink)
            reader.skip()
            command = node_command(site, settings, insecure, free_port())
            _run_once(command, site.flower_home, reader, tell, pause)
            n_failed = 0 if reader.connected else n_failed
            seconds = RETRY_SECONDS[min(n_failed, len(RETRY_SECONDS) - 1)]
            n_failed += 1
            tell(f"the node ended; it starts anew in {seconds:.0f} s (its log is {log})")
            pause(seconds)


def _run_once(
    command: Sequence[str], home: Path, reader: LogReader, tell: Tell, pause: Callable[[float], None]
) -> None:
    """Until Flower's node ends by itself."""
    process = start(command, reader.path, child_environment(home))
    try:
        while True:
            ended = process.poll() is not None
            for news in reader.read():
                tell(news)
            if ended:
                return
            pause(LOOK_SECONDS)
    finally:
        with undisturbed():
            _end(process, tell)


def _end(process: subprocess.Popen[bytes], tell: Tell) -> None:
    running = process.poll() is None
    stop(process)
    if running:
        tell("the node has ended")


def node_command(site: Site, settings: NodeSettings, insecure: bool, port: int) -> list[str]:
    """What starts Flower's node with the guard; its own processes reach it at `port` of this machine."""
    command = [sys.executable, "-m", "flames_cli.flower", "supernode", "--superlink", site.superlink]
    # It stays in this machine's processes: Flower sends none of it.
    command += ["--node-config", config_pairs(node_config(settings))]
    command += ["--host", LOOPBACK, "--port", str(port)]
    if insecure:
        return [*command, "--insecure"]
    command += ["--root-certificates", str(site.ca_certificate.resolve())]
    return [*command, "--auth-supernode-private-key", str(site.private_key.resolve())]


def node_config(settings: NodeSettings) -> dict[str, str | int | float | bool]:
    """`settings` as `fed.node.settings_of` reads them."""
    return {
        "shard": SHARD_SEPARATOR.join(map(str, settings.shards)),
        "client": settings.client or "",
        "device": settings.device,
        "precision": settings.precision,
        "client-state": str(settings.client_state or ""),
        "min-examples": settings.min_examples,
        "per-case": settings.per_case,
        "cache-share": settings.cache_share,
        "private": settings.private,
    }


def _check_files(site: Site) -> None:
    for file in (site.ca_certificate, site.private_key):
        if not file.is_file():
            raise MissingArtifact(f"no {file}; `flames deploy check --site {site.path}` tells what to do")
