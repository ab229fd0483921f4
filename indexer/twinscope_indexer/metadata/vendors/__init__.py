"""What each maker of electron microscopes writes beside the pixels."""
