"""Proofs: the full counts behind the claims. `./aihub prove AREA` runs the modules tests/proofs/AREA_*.py."""
