"""application/vnd.kubernetes.protobuf: the binary form of built-in objects, which typed Go clients send.

`wire` knows the format, `scalars` the values with forms of their own, `reading` and `writing` build a function a
message from the schema's field numbers, `envelope` is what goes around a message, `codec` ties them together.
Custom resources have no messages. Nothing here is generated: field numbers and what is written when empty are data.
"""
