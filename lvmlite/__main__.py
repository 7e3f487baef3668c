"""`python -m lvmlite`."""

from lvmlite.cli import main

main()
