"""JSON Web Tokens of other issuers: OpenID Connect by flags, or several issuers by an AuthenticationConfiguration."""
