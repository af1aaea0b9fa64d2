"""Files that are whole or absent, downloads, and images of 8-bit pixel values."""
