"""`python -m rscap`: the command line where the `rscap` script is not on the PATH."""

from rscap.cli import main

if __name__ == "__main__":
    main()
