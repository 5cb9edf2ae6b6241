"""The foundation's pages in the admin."""

from aihub_backup.core.admin import audit, people, places, work

__all__ = ["audit", "people", "places", "work"]
