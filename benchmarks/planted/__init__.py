"""Clips with planted evidence, the network that is trained on them, and what its tubes find there."""
