"""`python -m turnwise`: the command line where no script is installed, as in a Ray job."""

from turnwise.cli import main

if __name__ == "__main__":
    main()
