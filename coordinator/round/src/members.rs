//! The cohort of a run.

use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

use fedner_shared::id::InstitutionId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::member::Member;

/// Members that are copied together when one of them changes.
const GROUP: usize = 32;

/// The institutions of a run and their part in it, in the order of their names.
///
/// Copies share what none of them has changed. A step of a run copies the members that it changes and
/// the pointers to those beside them, however large the cohort is. Who compares two states sees at
/// once which members differ.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Members {
    /// In order. They never change, so that all copies share them.
    names: Arc<[InstitutionId]>,
    /// In the same order, each group but the last with [`GROUP`] members.
    groups: Vec<Arc<Vec<Arc<Member>>>>,
}

impl Members {
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn contains(&self, name: &InstitutionId) -> bool {
        self.place(name).is_some()
    }

    pub fn get(&self, name: &InstitutionId) -> Option<&Member> {
        self.shared(name).map(Arc::as_ref)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&InstitutionId, &Member)> {
        self.names.iter().zip(self.values())
    }

    pub fn names(&self) -> impl Iterator<Item = &InstitutionId> {
        self.names.iter()
    }

    pub fn values(&self) -> impl Iterator<Item = &Member> {
        self.groups
            .iter()
            .flat_map(|group| group.iter())
            .map(Arc::as_ref)
    }

    /// Those that are not as in `earlier`.
    pub fn changed_since<'a>(
        &'a self,
        earlier: &'a Self,
    ) -> impl Iterator<Item = (&'a InstitutionId, &'a Member)> {
        let alike = Arc::ptr_eq(&self.names, &earlier.names);
        let shared =
            move |group: &Arc<_>, at: usize| alike && Arc::ptr_eq(group, &earlier.groups[at]);
        let groups = self.names.chunks(GROUP).zip(&self.groups).enumerate();
        let groups = groups.filter(move |(at, (_, group))| !shared(group, *at));
        let members = groups.flat_map(|(_, (names, group))| names.iter().zip(group.iter()));
        let changed = move |(name, member): &(&InstitutionId, &Arc<Member>)| {
            let before = earlier.shared(name);
            before.is_none_or(|before| !Arc::ptr_eq(before, member) && before != *member)
        };
        members
            .filter(changed)
            .map(|(name, member)| (name, member.as_ref()))
    }

    pub(crate) fn get_mut(&mut self, name: &InstitutionId) -> Option<&mut Member> {
        let place = self.place(name)?;
        let group = Arc::make_mut(&mut self.groups[place / GROUP]);
        Some(Arc::make_mut(&mut group[place % GROUP]))
    }

    /// Changes those that `which` picks.
    pub(crate) fn change(
        &mut self,
        which: impl Fn(&Member) -> bool,
        mut how: impl FnMut(&InstitutionId, &mut Member),
    ) {
        for (names, group) in self.names.chunks(GROUP).zip(&mut self.groups) {
            let Some(first) = group.iter().position(|member| which(member)) else {
                continue;
            };
            let members = names.iter().zip(Arc::make_mut(group)).skip(first);
            for (name, member) in members.filter(|(_, member)| which(member)) {
                how(name, Arc::make_mut(member));
            }
        }
    }

    fn place(&self, name: &InstitutionId) -> Option<usize> {
        self.names.binary_search(name).ok()
    }

    fn shared(&self, name: &InstitutionId) -> Option<&Arc<Member>> {
        let place = self.place(name)?;
        self.groups[place / GROUP].get(place % GROUP)
    }
}

impl FromIterator<(InstitutionId, Member)> for Members {
    fn from_iter<I: IntoIterator<Item = (InstitutionId, Member)>>(members: I) -> Self {
        let members: BTreeMap<InstitutionId, Member> = members.into_iter().collect();
        let names = members.keys().cloned().collect();
        let members: Vec<Arc<Member>> = members.into_values().map(Arc::new).collect();
        let groups = members.chunks(GROUP).map(|group| group.to_vec().into());
        Self {
            names,
            groups: groups.collect(),
        }
    }
}

impl Index<&InstitutionId> for Members {
    type Output = Member;

    fn index(&self, name: &InstitutionId) -> &Member {
        self.get(name).expect("a member")
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

    fn named(name: impl ToString) -> InstitutionId {
        name.to_string().parse().expect("name")
    }

    fn members() -> Members {
        let names = ["anna", "bert", "carl"];
        names
            .map(|name| (named(name), Member::default()))
            .into_iter()
            .collect()
    }

    #[test]
    fn a_copy_tells_what_was_changed_in_it_and_nothing_else() {
        let before = members();
        let mut after = before.clone();
        assert_eq!(after.changed_since(&before).count(), 0);
        after.change(|_| false, |_, _| panic!("none was picked"));
        // Taken in hand and put back as it was.
        let bert = named("bert");
        after.get_mut(&bert).expect("bert").away = false;
        assert_eq!(after.changed_since(&before).count(), 0);
        after.get_mut(&bert).expect("bert").away = true;
        let changed: Vec<_> = after.changed_since(&before).collect();
        assert_eq!(changed, [(&bert, &after[&bert])]);
        assert!(!before[&bert].away, "the copy alone was changed");
        let fewer: Members = [(bert.clone(), after[&bert].clone())].into_iter().collect();
        assert_eq!(after.changed_since(&fewer).count(), 2);
    }

    /// Of more than one group.
    #[test]
    fn a_large_cohort_is_in_order_and_copies_share_the_groups_that_are_as_before() {
        let numbers = 0..3 * GROUP + 5;
        let names = numbers.clone().map(|number| named(format!("i{number}")));
        let before: Members = names
            .clone()
            .map(|name| (name, Member::default()))
            .collect();
        let mut sorted: Vec<_> = names.collect();
        sorted.sort_unstable();
        assert!(before.names().eq(&sorted));
        assert_eq!(before.values().count(), before.len());
        let mut after = before.clone();
        for number in numbers.clone().step_by(7) {
            let name = named(format!("i{number}"));
            after.get_mut(&name).expect("a member").put_off = 1 + number as u32;
        }
        for number in numbers.clone() {
            let put_off = after[&named(format!("i{number}"))].put_off;
            let expected = if number % 7 == 0 {
                1 + number as u32
            } else {
                0
            };
            assert_eq!(put_off, expected, "{number}");
        }
        let changed: Vec<_> = after.changed_since(&before).map(|(name, _)| name).collect();
        let expected = after.iter().filter(|(_, member)| member.put_off > 0);
        let expected: Vec<_> = expected.map(|(name, _)| name).collect();
        assert_eq!(changed, expected);
        assert!(after.get(&named("nobody")).is_none());

        let mut third = before.clone();
        let last = sorted.last().expect("a name");
        let mut seen = Vec::new();
        third.change(
            |member| std::ptr::eq(member, &raw const before[last]),
            |name, member| {
                member.put_off = 9;
                seen.push(name.clone());
            },
        );
        assert_eq!(seen, std::slice::from_ref(last));
        let shared = before.groups.iter().zip(&third.groups);
        let shared = shared.filter(|(before, third)| Arc::ptr_eq(before, third));
        assert_eq!(shared.count(), before.groups.len() - 1);
        assert_ne!(before, third);
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
