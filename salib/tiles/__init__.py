"""What a tile archive is: grid, codec, archive, checks."""
