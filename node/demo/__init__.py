"""What the demonstration needs and a node does not."""
