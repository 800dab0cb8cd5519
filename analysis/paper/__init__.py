"""The cells of the paper: its values, its protocol, and the runs that stand for each of them."""
