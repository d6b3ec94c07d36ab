"""``python -m e2kemu``."""

import sys

from e2kemu.cli import main

sys.exit(main())
