"""`python -m msg3d_lab` is `msg3d-lab`; torchrun needs it."""

from msg3d_lab.cli import main

if __name__ == "__main__":
    main()
