"""Pauses of Flower before it asks for an object of a message again.

A message can be received before its objects have been stored. Flower then waits 1, 2, 4 … 10 s and asks
again, which in a short round takes longer than all else.
"""

from flwr.supercore.inflatable import inflatable_utils

FIRST_SECONDS = 0.05
"""The first pause; each later one is twice as long, up to Flower's own 10 s."""


def retry_soon() -> None:
    """Make the first pauses of this process short. Flower has no option for them."""
    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        defaults = function.__kwdefaults__ or {}
        if "initial_backoff" not in defaults:
            raise ImportError(f"cannot import name 'initial_backoff' of '{function.__name__}' from 'flwr'")
        defaults["initial_backoff"] = FIRST_SECONDS
