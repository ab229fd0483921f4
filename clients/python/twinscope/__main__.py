"""``python -m twinscope`` is the command ``twinscope``."""

from __future__ import annotations

import sys

from twinscope_client.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
