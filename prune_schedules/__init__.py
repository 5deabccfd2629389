"""When and what to remove: schedules over the run, scores, masks on weights, and cutting for good."""
