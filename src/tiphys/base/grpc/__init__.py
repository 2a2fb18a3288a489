"""gRPC over Unix sockets: messages as tables, a client, and a server that loads nothing before its first caller.

Everything here speaks by grpclib (asyncio's own, one thread); it is imported when a connection is made, not before.
"""
