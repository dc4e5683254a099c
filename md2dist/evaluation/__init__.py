"""How good depth and odometry are, by the protocols of the field."""
