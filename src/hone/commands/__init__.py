"""What `hone VERB` does: one module per verb, and the only place that prints for people."""
