"""The report: one HTML file with tables, figures and a browser of samples."""
