"""What the dense protocols give on real photos, by the command line."""
