"""The pages of this app in the admin."""

from backups.admin import backups, beat, places, promises, schedules, sources

__all__ = ["backups", "beat", "places", "promises", "schedules", "sources"]
