"""What a tile archive is: grid, codec, archive, writer, checks, lower zooms."""
