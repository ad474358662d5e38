"""`python -m ecgkit` is the `ecgkit` command."""

import sys

from ecgkit.cli import main

sys.exit(main())
