"""tunneler: unmodified programs on one network reach TCP services on another, behind NAT."""

__version__ = "0.1.0"
