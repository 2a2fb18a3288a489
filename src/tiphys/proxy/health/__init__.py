"""What load balancers and probes ask a node's proxy: health of Services' node ports, and its own."""
