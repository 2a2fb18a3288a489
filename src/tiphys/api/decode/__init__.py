"""From bytes to objects in the wire's canonical form.

`body` parses JSON and YAML, `values` knows the scalars, `objects` turns a parsed object into the one that the Go
types of upstream would write back, `request` ties them to a request with its fieldValidation.
"""
