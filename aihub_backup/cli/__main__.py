"""`python -m aihub_backup.cli`: what ./aihub hands over to."""

import sys

from aihub_backup.cli.parser import main

sys.exit(main(sys.argv[1:]))
