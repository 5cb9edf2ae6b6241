"""The command line: ./aihub, or `python -m aihub_backup.cli`."""
