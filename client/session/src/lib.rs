//! The pure core of the client: the life cycle of one institution's assignments.
