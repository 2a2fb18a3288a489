"""Admission policies: ValidatingAdmissionPolicy and MutatingAdmissionPolicy with their bindings and parameters.

    source.py       the policies that have bindings, compiled once a change; which of them a request is for
    compiled.py     one policy: its variables, conditions and expressions as programs
    scope.py        what expressions may look at in one request, and running them within a budget
    asking.py       `authorizer`: questions answered while an expression waits
    params.py       the objects that a binding names as parameters
    validating.py   the plugin that refuses, warns and annotates;   mutating.py   the one that changes objects
    patching.py     what the patches of a mutating policy do to an object
    typecheck.py    expressions held against the schemas of what they match (for the policy's status)

Source: the API reference, admissionregistration.k8s.io/v1; KEP-3488, KEP-3962.
"""
