"""The paper: its values and protocol, the runs that stand for its own, and the cells of its tables."""
