"""``python -m e2kemu``."""

import sys

from e2kemu.startup import without_collector

with without_collector():
    from e2kemu.cli import main

sys.exit(main())
