"""The gRPC door. Wire types end here: protobuf in, frozen values out; no policy."""
