"""Rounds without waiting for each other: every client gets the newest model as soon as it has reported."""
