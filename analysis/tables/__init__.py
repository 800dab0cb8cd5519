"""Tables: the paper's from our runs beside its values, the benefit of AltUB, and every single run."""
