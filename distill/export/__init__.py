"""From the trained module to the folder one deploys."""
