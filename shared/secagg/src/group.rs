//! How many members take part, and how many of them it takes.

use fedner_shared::plan::{LARGEST_GROUP, SMALLEST_GROUP, threshold};

use crate::Error;

/// A number of members that may form a sum, with its threshold. There is no other way to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    members: usize,
}

impl Group {
    pub fn new(members: usize) -> Result<Self, Error> {
        if (SMALLEST_GROUP..=LARGEST_GROUP).contains(&members) {
            return Ok(Self { members });
        }
        Err(Error::Members { found: members })
    }

    pub const fn members(self) -> usize {
        self.members
    }

    /// How many shares make a secret, and how many vectors make a sum, at the least.
    pub const fn threshold(self) -> usize {
        threshold(self.members)
    }

    pub(crate) fn place(self, member: usize) -> Result<usize, Error> {
        if member < self.members {
            return Ok(member);
        }
        Err(Error::Place {
            member,
            members: self.members,
        })
    }
}
