"""The part of FLAMES that uses Flower's private modules: SuperLink, SuperNode, command line, control API."""
