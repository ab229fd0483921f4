"""Entry point of ``python -m twinscope``, which runs the ``twinscope`` command."""

from __future__ import annotations

import sys

from twinscope_client.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
