"""What is done to a cluster under load: faults, lost regions, roll-outs."""
