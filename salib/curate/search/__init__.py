"""STAC items from an API or a catalogue, and which of them can be used."""
