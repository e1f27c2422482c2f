//! What records tell serde.

/// Lets serde skip fields that hold their default.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Figures that may be infinite: JSON has no infinity, so it is written as `null` and `null` is
/// read as infinity. (A NaN would come back as infinity too, which is the safe side.)
pub mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    fn to_option(figure: f64) -> Option<f64> {
        Some(figure).filter(|figure| figure.is_finite())
    }

    fn from_option(figure: Option<f64>) -> f64 {
        figure.unwrap_or(f64::INFINITY)
    }

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's `with` passes a reference"
    )]
    pub fn serialize<S: Serializer>(figure: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        to_option(*figure).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Option::deserialize(deserializer).map(from_option)
    }

    /// The same for a list.
    pub mod list {
        use super::{Deserialize, Deserializer, Serializer, from_option, to_option};

        pub fn serialize<S: Serializer>(figures: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(figures.iter().map(|figure| to_option(*figure)))
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<f64>, D::Error> {
            let figures = Vec::<Option<f64>>::deserialize(deserializer)?;
            Ok(figures.into_iter().map(from_option).collect())
        }
    }
}
