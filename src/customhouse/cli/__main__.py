"""`python -m customhouse.cli` is `customhouse`."""

from __future__ import annotations

from customhouse.cli.main import main

if __name__ == "__main__":
    main()
