"""The API of the work queue: parse, reach the object, call, answer."""
