//! Which weights an update covers, in which order.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// One tensor of float32 weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// The Hugging Face name, with the `bert.` prefix.
    pub name: String,
    pub shape: Vec<usize>,
}

impl TensorSpec {
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
        }
    }

    /// How many weights the tensor has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The trainable tensors of a plan, flattened one after another in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub tensors: Vec<TensorSpec>,
}

impl Manifest {
    pub fn new(tensors: Vec<TensorSpec>) -> Self {
        Self { tensors }
    }

    /// d, the number of trainable weights.
    pub fn dimension(&self) -> usize {
        self.tensors.iter().map(TensorSpec::len).sum()
    }

    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// Each tensor with the offset of its first weight in the flat vector.
    pub fn segments(&self) -> impl Iterator<Item = (usize, &TensorSpec)> {
        self.tensors.iter().scan(0, |next, tensor| {
            let offset = *next;
            *next += tensor.len();
            Some((offset, tensor))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_follow_the_order_and_the_digest_depends_on_it() {
        let (a, b) = (TensorSpec::new("a", [2, 3]), TensorSpec::new("b", [4]));
        let forward = Manifest::new(vec![a.clone(), b.clone()]);
        assert_eq!(forward.dimension(), 10);
        assert_eq!(
            forward
                .segments()
                .map(|(offset, _)| offset)
                .collect::<Vec<_>>(),
            [0, 6]
        );
        assert_ne!(forward.digest(), Manifest::new(vec![b, a]).digest());
    }
}
