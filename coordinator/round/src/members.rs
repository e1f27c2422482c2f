//! The cohort of a run.

use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

use fedner_shared::id::InstitutionId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::member::Member;

/// The institutions of a run and their part in it, in the order of their names.
///
/// Copies share what none of them has changed: a step of a run copies the members that it changes,
/// and who compares two states sees at once which those are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Members(BTreeMap<InstitutionId, Arc<Member>>);

impl Members {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, name: &InstitutionId) -> bool {
        self.0.contains_key(name)
    }

    pub fn get(&self, name: &InstitutionId) -> Option<&Member> {
        self.0.get(name).map(Arc::as_ref)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&InstitutionId, &Member)> {
        self.0.iter().map(|(name, member)| (name, member.as_ref()))
    }

    pub fn names(&self) -> impl Iterator<Item = &InstitutionId> {
        self.0.keys()
    }

    pub fn values(&self) -> impl Iterator<Item = &Member> {
        self.0.values().map(Arc::as_ref)
    }

    /// Those that are not as in `earlier`.
    pub fn changed_since<'a>(
        &'a self,
        earlier: &'a Self,
    ) -> impl Iterator<Item = (&'a InstitutionId, &'a Member)> {
        let changed = |(name, member): &(&InstitutionId, &Arc<Member>)| {
            let before = earlier.0.get(*name);
            before.is_none_or(|before| !Arc::ptr_eq(before, member) && before != *member)
        };
        let changed = self.0.iter().filter(changed);
        changed.map(|(name, member)| (name, member.as_ref()))
    }

    pub(crate) fn get_mut(&mut self, name: &InstitutionId) -> Option<&mut Member> {
        self.0.get_mut(name).map(Arc::make_mut)
    }

    /// Changes those that `which` picks.
    pub(crate) fn change(
        &mut self,
        which: impl Fn(&Member) -> bool,
        mut how: impl FnMut(&InstitutionId, &mut Member),
    ) {
        for (name, member) in &mut self.0 {
            if which(member) {
                how(name, Arc::make_mut(member));
            }
        }
    }
}

impl FromIterator<(InstitutionId, Member)> for Members {
    fn from_iter<I: IntoIterator<Item = (InstitutionId, Member)>>(members: I) -> Self {
        let members = members.into_iter();
        Self(
            members
                .map(|(name, member)| (name, member.into()))
                .collect(),
        )
    }
}

impl Index<&InstitutionId> for Members {
    type Output = Member;

    fn index(&self, name: &InstitutionId) -> &Member {
        &self.0[name]
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = BTreeMap::<InstitutionId, Member>::deserialize(deserializer)?;
        Ok(members.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let names = ["anna", "bert", "carl"];
        let member = |name: &str| (name.parse().expect("name"), Member::default());
        names.into_iter().map(member).collect()
    }

    #[test]
    fn a_copy_tells_what_was_changed_in_it_and_nothing_else() {
        let before = members();
        let mut after = before.clone();
        assert_eq!(after.changed_since(&before).count(), 0);
        after.change(|_| false, |_, _| panic!("none was picked"));
        // Taken in hand and put back as it was.
        let bert = "bert".parse().expect("name");
        after.get_mut(&bert).expect("bert").away = false;
        assert_eq!(after.changed_since(&before).count(), 0);
        after.get_mut(&bert).expect("bert").away = true;
        let changed: Vec<_> = after.changed_since(&before).collect();
        assert_eq!(changed, [(&bert, &after[&bert])]);
        assert!(!before[&bert].away, "the copy alone was changed");
        let fewer: Members = [(bert.clone(), after[&bert].clone())].into_iter().collect();
        assert_eq!(after.changed_since(&fewer).count(), 2);
    }

    #[test]
    fn members_read_back_as_they_were_written() {
        let json = serde_json::to_string(&members()).expect("json");
        assert_eq!(
            serde_json::from_str::<Members>(&json).expect("members"),
            members()
        );
    }
}
