"""`python -m tiphys`: the same as the `tiphys` command."""

from tiphys.cli.main import main

if __name__ == "__main__":
    main()
