"""A PostgreSQL database: its dump, taken in one consistent moment, and the way back into a new database."""

from backups.strategies.postgresql.options import PostgreSQLOptions
from backups.strategies.postgresql.strategy import PostgreSQL

__all__ = ["PostgreSQL", "PostgreSQLOptions"]
