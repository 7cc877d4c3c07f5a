"""Results of a study in a folder, and the report that tells them in one HTML file."""
