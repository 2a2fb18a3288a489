"""Server-side apply and managedFields (KEP-555): who manages which field, and what an apply does to an object.

Pure: objects are parsed JSON in canonical form, times are text. `manager.FieldManager` is what the API server calls;
below it `fields` (sets of fields), `nodes` (what the schema says about ownership), `compare`, `merge`, `check` (of
what is applied) and `managed` (the entries of metadata.managedFields).
"""
