"""``python -m annotator_client`` is the command ``annotator``."""

import sys

from annotator_client.cli import main

sys.exit(main())
