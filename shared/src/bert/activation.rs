//! The function between the two products of a feed-forward network.

/// An activation that published BERTs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// The exact GELU (Hendrycks and Gimpel 2016).
    #[default]
    Gelu,
    /// Its approximation by a hyperbolic tangent (ibid., section 2).
    GeluTanh,
    Relu,
}

impl Activation {
    /// By the name that `hidden_act` has for it.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "gelu" | "gelu_python" => Some(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }
}
