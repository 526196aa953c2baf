"""A site's node: Flower's SuperNode with the app guard, which trains on the site's own shards."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from flames_cli.core.addresses import split_address
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.node import SHARD_SEPARATOR, NodeSettings, read_profile
from flames_cli.flower.processes import free_port, node_environment, start, stop
from flames_cli.flower.toml_pairs import config_pairs
from flames_cli.plugins.packages import pins_of
from flames_cli.stages.deploy.check_files import check_authority
from flames_cli.stages.deploy.findings import require_sound
from flames_cli.stages.deploy.foreground import Notify, uninterrupted, until_signal
from flames_cli.stages.deploy.identity import NO_PEERS, site_identity
from flames_cli.stages.deploy.node_log import LogReader
from flames_cli.stages.deploy.plugins import check_plugins
from flames_cli.stages.deploy.rejection import explain_rejection
from flames_cli.store.deployment.folders import Site, check_site_name, read_site
from flames_cli.store.files.locks import HOLDER, locked

LOOPBACK = "127.0.0.1"
LOG = "node.log"
NODE = "node"
"""Name in a site's folder that a running node locks."""

BUSY = (
    f"another process runs this site's node{HOLDER}, expected one node for each site; stop that one, or make "
    "another site with `flames deploy add`"
)

LOOK_SECONDS = 0.5
"""Time between two reads of the node's log."""

RETRY_SECONDS = (5.0, 10.0, 10.0, 10.0, 20.0, 40.0, 60.0)
"""Wait before a node that ended by itself is restarted: the first time, the second …, all later times."""


def find_site(
    folder: Path | None, superlink: str | None, stand_in: str | None = None, name: str | None = None
) -> Site:
    """Return the site of a node.

    Args:
        folder: the site's folder from the server's operator; None: the current folder.
        superlink: HOST:PORT of the server; None: the address in the folder.
        stand_in: name of a site without a folder, for a trial without keys; None: a folder is required.
        name: another name for such a site, from the command line.

    Raises:
        FlamesError: the folder does not exist, or a name or an address is missing or not allowed.
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
    """Return `settings` from the command line, completed by those of the site's folder."""
    return replace(
        settings,
        shards=tuple(path.resolve() for path in settings.shards),
        client=site.name,
        client_state=site.client_state.resolve(),
        models=site.models.resolve(),
        private=True,
        identity=site.identity.resolve(),
        peers=site.peers,
        secure_only=settings.secure_only or site.secure_only,
    )


def join(
    site: Site,
    settings: NodeSettings,
    insecure: bool,
    notify: Notify,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Run the node of `site` until a signal ends it; it connects again, without a limit of attempts.

    Args:
        site: from `find_site`.
        settings: from `settings_for`.
        insecure: without TLS and keys.
        notify: called with a line about each event.
        pause: function that waits for a number of seconds.

    Raises:
        FlamesError: a shard or a file of the site cannot be used, a certificate is not valid now, or another
            process runs this site's node.
    """
    read_profile(settings)
    if not insecure:
        _check_files(site)
        require_sound(check_authority(site.ca_certificate), notify)
    for finding in check_plugins(site.plugins):
        # A node takes part in the runs that need no such package, for which nothing is wrong.
        if finding.state == "problem":
            notify(f"{finding.what}: a run that needs it rejects this site; {finding.fix}")
    environment = node_environment(site.flower_home, pins_of(site.plugins))
    log = site.path / LOG
    with until_signal(), locked(site.path / NODE, BUSY):
        _prepare_identity(site, settings, notify)
        n_failed = 0
        while True:
            reader = LogReader(log, site.superlink, str if insecure else partial(explain_rejection, site))
            reader.skip()
            command = node_command(site, settings, insecure, free_port())
            _run_once(command, environment, reader, notify, pause)
            n_failed = 0 if reader.connected else n_failed
            seconds = RETRY_SECONDS[min(n_failed, len(RETRY_SECONDS) - 1)]
            n_failed += 1
            notify(f"the node ended; it restarts in {seconds:.0f} s (its log is {log})")
            pause(seconds)


def _prepare_identity(site: Site, settings: NodeSettings, notify: Notify) -> None:
    """Make the site's identity at its first start, and say what protects its secure sums."""
    is_new = not site.identity.exists()
    identity = site_identity(site)
    if is_new:
        notify(f"made this site's identity {identity}: compare it with the other sites")
    if settings.secure_only and not site.peers:
        notify(f"{NO_PEERS}; `flames deploy pin` prevents this")


def _run_once(
    command: Sequence[str],
    environment: Mapping[str, str],
    reader: LogReader,
    notify: Notify,
    pause: Callable[[float], None],
) -> None:
    """Run Flower's node until it ends by itself."""
    process = start(command, reader.path, environment)
    try:
        while True:
            ended = process.poll() is not None
            for line in reader.read():
                notify(line)
            if ended:
                if reason := reader.explain_end():
                    notify(reason)
                return
            pause(LOOK_SECONDS)
    finally:
        with uninterrupted():
            _end(process, notify)


def _end(process: subprocess.Popen[bytes], notify: Notify) -> None:
    running = process.poll() is None
    stop(process)
    if running:
        notify("the node has ended")


def node_command(site: Site, settings: NodeSettings, insecure: bool, port: int) -> list[str]:
    """Return the command for Flower's node with the guard, which listens at `port` for its own processes."""
    command = [sys.executable, "-m", "flames_cli.flower", "supernode", "--superlink", site.superlink]
    # Flower does not send the configuration to the server.
    command += ["--node-config", config_pairs(node_config(settings))]
    command += ["--host", LOOPBACK, "--port", str(port)]
    if insecure:
        return [*command, "--insecure"]
    command += ["--root-certificates", str(site.ca_certificate.resolve())]
    return [*command, "--auth-supernode-private-key", str(site.private_key.resolve())]


def node_config(settings: NodeSettings) -> dict[str, str | int | float | bool]:
    """Return `settings` in the form that `fed.node.settings_of` reads."""
    return {
        "shard": SHARD_SEPARATOR.join(map(str, settings.shards)),
        "client": settings.client or "",
        "device": settings.device,
        "precision": settings.precision,
        "compile": settings.compile,
        "client-state": str(settings.client_state or ""),
        "min-examples": settings.min_examples,
        "per-case": settings.per_case,
        "cache-share": settings.cache_share,
        "models": str(settings.models or ""),
        "private": settings.private,
        "identity": str(settings.identity or ""),
        "peers": json.dumps(dict(settings.peers)),
        "secure-only": settings.secure_only,
    }


def _check_files(site: Site) -> None:
    for file in (site.ca_certificate, site.private_key):
        if not file.is_file():
            raise MissingArtifact(
                f"{file} does not exist; `flames deploy check --site {site.path}` shows the fix"
            )
