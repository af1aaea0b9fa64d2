"""The ground in metres: relief, fields, woods, water, lines and buildings, as materials."""
