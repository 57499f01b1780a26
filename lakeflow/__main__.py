"""`python -m lakeflow`."""

import sys

from lakeflow.cli import main

sys.exit(main())
