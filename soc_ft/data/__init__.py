"""What a run is trained and evaluated on."""
