"""``python -m cryosphere``."""

from cryosphere.cli import main

main()
