//! The client: trains beside an institution's text and lets only clipped, noised updates leave.
