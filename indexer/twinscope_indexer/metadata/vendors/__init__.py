"""What each vendor's instruments write beside the pixels; each module defines a ``READER``, see `vendor`."""
