"""How fast a model file is on this machine: what `tubes bench` measures, and what the project's benchmarks share."""
