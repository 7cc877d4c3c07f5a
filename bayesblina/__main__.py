"""Run the command line with ``python -m bayesblina``."""

from bayesblina.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
