"""What a machine has and lacks for the factory, found by trying; every lack comes with its remedy."""
