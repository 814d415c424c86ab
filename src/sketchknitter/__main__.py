"""``python -m sketchknitter``: the command, also under ``torchrun -m sketchknitter``."""

from sketchknitter.cli import main

main()
