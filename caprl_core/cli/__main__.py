"""`python -m caprl_core.cli` is `caprl`."""

from caprl_core.cli import main

if __name__ == "__main__":
    main()
