"""Who may pull which image: credentials of nodes, Secrets and plugins, and what is remembered of past pulls."""
