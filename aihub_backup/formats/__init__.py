"""How moments are written: so that they sort, with their zone, the same in every language."""
