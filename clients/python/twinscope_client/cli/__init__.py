"""The command ``twinscope`` and its subcommands."""
