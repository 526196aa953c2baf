"""The files of a deployment: its folders, certificates and keys."""
