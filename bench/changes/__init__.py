"""What experiments change in the data: descriptions, pictures, the catalogue."""
