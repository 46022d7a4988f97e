"""Where the log keeps its entries: one port, and the stores that fulfil it."""
