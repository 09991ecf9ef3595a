"""`python -m atrous`, which is also what torchrun starts: `torchrun -m atrous train ...`."""

from atrous.cli.main import main

if __name__ == "__main__":
    main()
