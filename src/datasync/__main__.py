"""`python -m datasync`: the command line."""

import sys

from datasync.cli import main

sys.exit(main())
