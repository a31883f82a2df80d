"""What a fleet of devices needs, worked out from unit costs that were measured before."""
