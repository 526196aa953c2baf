"""Reasons for which a session of secure aggregation does not go on."""

from flames_cli.errors import FlamesError


class Declined(FlamesError):
    """A client does not do what the server asks; the message is the reason that it sends."""


class BadMessage(FlamesError):
    """A client's message cannot be used: the client drops out of the session, the others go on."""


class Abandoned(FlamesError):
    """The sum of a session cannot be opened; the message names the clients."""
