"""One page that shows runs, and all that their numbers depend on."""
