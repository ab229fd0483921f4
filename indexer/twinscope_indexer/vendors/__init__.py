"""What each maker of electron microscopes writes beside the pixels; `twinscope_indexer.metadata` is the way in."""
