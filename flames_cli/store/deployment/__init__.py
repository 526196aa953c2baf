"""Files of a deployment: its folders, certificates and keys."""
