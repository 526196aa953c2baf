"""Plug-ins for FLAMES, each in a module of its own: one that needs torch loads only when it is used."""
