"""The pages of this app in the admin."""

from backups.admin import backups, places, promises

__all__ = ["backups", "places", "promises"]
