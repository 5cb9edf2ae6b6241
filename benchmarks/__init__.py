"""Measurements: our engine beside its peers and beside this machine's own limits, on data anybody can make again."""
