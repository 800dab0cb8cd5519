"""The report: one HTML page with all tables and figures, and what is missing."""
