//! The coordinator: assigns rounds, aggregates updates, keeps the history of models.
