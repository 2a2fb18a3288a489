"""Custom resources as pure values: what a CustomResourceDefinition says, compiled.

    definition.compile_definition(crd) -> CustomDefinition      names, scope, versions; cheap: versions are lazy
        .versions: {name: CustomVersion}    .stored: CustomVersion    .resources() -> served ResourceInfos
    CustomVersion                                       one version
        .info   ResourceInfo for the catalog (type, columns, subresources, verbs)
        .kind   CustomKind: default, prepare_*, validate*, cells, fields, scale (ScalePaths)
        .type   schema.Type for Expected: decoding with it prunes and coerces metadata, apply takes its Node from it
        .structural  the structural schema, None where there is none (everything is kept)
        .read(obj)   in place: what upstream does to an object that comes out of the store (prune, default)
    definition.conditions(crd) -> NonStructuralSchema and KubernetesAPIApprovalPolicyConformant, None: no such condition

    structural.Structural.of(schema)    pruning.pruner   defaulting.defaulter   values.validator   listtypes   rules (CEL)
    columns.JSONPath(text).find(obj)    selectable fields and scale paths: paths.parse
    openapi.definitions / openapi.paths: what a version adds to /openapi/v2 and v3

A custom object is of the version of its request when it is defaulted and validated; `CustomKind` objects are one for
each version, and conversion is not theirs: with the strategy None only apiVersion differs, with Webhook the server asks.
Everything is immutable and shared; compiled functions are made on first use, and a changed CRD is a new value.
"""
