"""Stages: one function per command. It reads artifacts, writes artifacts and prints nothing."""
