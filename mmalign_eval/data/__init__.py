"""Where samples come from: the hub, native files, the miniature."""
