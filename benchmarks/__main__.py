"""`python -m benchmarks` is `dqss-bench`."""

import sys

from benchmarks.cli import main

sys.exit(main())
