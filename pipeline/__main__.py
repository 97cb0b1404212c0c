"""`python -m pipeline` is `framechain`."""

from pipeline.cli import main

main()
