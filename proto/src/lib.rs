//! The gRPC services of fedner and the conversion of wire messages into trusted types.
