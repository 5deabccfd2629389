"""Everything before the first step: parts are built, checked against each other, and tried."""
