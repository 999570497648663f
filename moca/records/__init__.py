"""What runs leave behind, read without torch: results, logs, and metrics as tables show them."""
