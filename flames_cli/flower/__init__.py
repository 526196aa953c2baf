"""A deployment's processes: Flower's SuperLink and SuperNode, gated and guarded."""
