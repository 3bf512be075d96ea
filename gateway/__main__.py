"""`python -m gateway` is the `sluicegate` command."""

from gateway.cli import main

if __name__ == "__main__":
    main()
