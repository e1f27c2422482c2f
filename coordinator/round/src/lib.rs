//! The pure core of the coordinator: runs and rounds as a state machine without clock or input and output.
