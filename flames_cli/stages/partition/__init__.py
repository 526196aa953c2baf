"""What `partition` does: members of data sets, their roles, clients and server sets."""
