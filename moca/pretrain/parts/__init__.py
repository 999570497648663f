"""Parts that several methods share: masks, decoders, losses, moving averages."""
