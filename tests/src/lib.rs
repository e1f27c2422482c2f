//! Test kit, the demo, and the tests that run the real programs together.
