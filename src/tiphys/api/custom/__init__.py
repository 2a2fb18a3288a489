"""Custom resources as pure values: what a CustomResourceDefinition says, compiled.

    definition   `compile_definition(crd) -> CustomDefinition` (versions, stored, resources()), `conditions(crd)`
    kind         `CustomKind`: defaults, preparation, validation, columns and fields of one version
    types        `schema.Type`s of objects and lists, for decoding, server-side apply and OpenAPI
    schemas      looking at openAPIV3Schema as a structural schema
    pruning, defaulting, checks, values, scalars, results    made of a schema: functions on objects
    listtypes, embedded, scaling, correlation, rules         sets and maps, inner resources, replicas, ratcheting, CEL
    columns, jsonpath, fieldpaths                            printer columns; paths of fields
    ownership, publishing                                    nodes of server-side apply; OpenAPI v2 and v3
    formats, patterns, gotext                                strings that schemas ask for; Go's way of writing values

A custom object is of the version of its request when it is defaulted and validated; `CustomKind`s are one for each
version, and conversion is not theirs: by the strategy None only apiVersion differs, with Webhook the server asks.
Everything is immutable and shared; compiled functions are made on first use, and a changed CRD is a new value.

OpenAPI: `openapi.documents.OpenApi` publishes custom resources of its catalog whose infos are those of
`CustomDefinition.resources()`.
"""
