"""The demo: the whole job at toy size, on images that it draws itself."""
