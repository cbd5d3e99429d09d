"""How the container image is built where no image registry is reachable."""
