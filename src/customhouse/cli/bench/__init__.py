"""`customhouse bench`: deliveries per second on this machine, measured from outside with every guard on."""
