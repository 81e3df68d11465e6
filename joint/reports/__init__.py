"""The evaluation of both tasks as a report shows it."""
