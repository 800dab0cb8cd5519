"""The study of AltUB on real images: its records, its statistics and the page that is made from them."""
