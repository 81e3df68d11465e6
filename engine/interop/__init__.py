"""Answers in the forms of other libraries; each is imported when it is asked for, and none is needed otherwise."""
