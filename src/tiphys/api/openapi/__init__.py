"""OpenAPI documents, v2 and v3, made from the catalog and the compiled schema when somebody asks.

`documents.OpenApi` is what the endpoints call; `schemas` makes the definitions, `paths` the operations (v3), `v2`
turns both into a Swagger document. Nothing is kept but compressed bytes.
"""
