"""The command line, as `python -m salib` and `torchrun -m salib` start it."""

from salib.cli.app import main

main()
