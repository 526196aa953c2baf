"""Reason why a server does not admit a node: the server's certificate, the clocks, or the node's key.

Flower's server answers a node whose key it does not know as it answers one whose key another node uses.
"""

import http.client
import ssl
from base64 import b64encode

from flames_cli.errors import FlamesError
from flames_cli.flower.gate import KEY_HEADER, ONLINE, STATE_HEADER, UNKNOWN
from flames_cli.flower.health import EXPIRED, NOT_YET
from flames_cli.stages.deploy.check_connection import (
    SECONDS,
    Answer,
    check_clock,
    request_health,
    untrusted,
)
from flames_cli.stages.deploy.findings import Finding
from flames_cli.store.deployment.folders import Site
from flames_cli.store.deployment.node_keys import public_key_pem

IN_USE = (
    "a node of this site is connected already: on this machine, or on another one with a copy of the site's "
    "folder, which has the same key; run one node for each site, and stop the other. If this site's node was "
    "killed, the server notices it within a minute"
)
NOT_KNOWN = (
    "the server does not know this site's key; check that this is the folder that the server's operator gave "
    "you, and that `flames deploy status` lists the site there"
)


def explain_rejection(site: Site, seconds: float = SECONDS) -> str:
    """Return why the server does not admit the node of `site`; empty if the server does not say so."""
    try:
        key = b64encode(public_key_pem(site.private_key)).decode()
        answer = request_health(site.superlink, site.ca_certificate, seconds, {KEY_HEADER: key})
    except ssl.SSLCertVerificationError as error:
        if error.verify_code not in (EXPIRED, NOT_YET):
            return ""
        return _sentence(untrusted(error.verify_code, site.superlink, site.ca_certificate, seconds))
    except (OSError, http.client.HTTPException, FlamesError):
        return ""
    return _explain(answer)


def _explain(answer: Answer) -> str:
    clocks = check_clock(answer)
    if clocks.state == "problem":
        return _sentence(clocks)
    return {ONLINE: IN_USE, UNKNOWN: NOT_KNOWN}.get(answer.headers.get(STATE_HEADER, ""), "")


def _sentence(finding: Finding) -> str:
    return f"{finding.what}; {finding.fix}"
