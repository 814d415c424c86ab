"""Systems of the results table: ours, the rivals, and the contract that they share."""
