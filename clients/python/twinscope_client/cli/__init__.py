"""The ``twinscope`` command."""
