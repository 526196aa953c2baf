"""The registry of losses. Its names are available without importing torch."""

LOSSES = {"dice-focal": "flames_cli.learn.losses:dice_focal_loss"}
"""Module and function of each loss."""
