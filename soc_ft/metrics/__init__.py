"""What is only measured of pictures, never trained on."""
