//! How many members take part, and how many of them it takes.

use crate::Error;

/// Of two, each would know the other's update from the sum.
pub const SMALLEST_GROUP: usize = 3;
/// Some hundred: work and messages grow with the square of their number.
pub const LARGEST_GROUP: usize = 100;

/// t, the least number above two thirds of `members`. A coordinator that lies about who was lost needs two disjoint
/// sets of answers, one with each kind of share. Any two sets of t members have more than a third in common, and
/// honest ones among those answer once.
pub const fn threshold(members: usize) -> usize {
    2 * members / 3 + 1
}

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
