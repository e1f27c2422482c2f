//! What need not be written, as it is what is read where nothing stands.

/// For `skip_serializing_if` beside `default`.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
