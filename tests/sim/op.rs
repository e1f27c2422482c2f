//! What may happen in a simulation, and how it is made up.

use fedner_shared::plan::{KnownTypes, OptimizerName, Strategy, threshold};
use proptest::prelude::{Strategy as Drawn, *};

use crate::machine::Side;
use crate::mishap::{File, No, Spoilt};

/// A federation and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Of the network's latencies.
    pub(crate) seed: u64,
    pub(crate) setting: Setting,
    pub(crate) ops: Vec<Op>,
}

#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) sites: usize,
    pub(crate) quorum: usize,
    pub(crate) rounds: u32,
    pub(crate) noise: bool,
    /// The budget of the first institution is spent after its first update.
    pub(crate) poor: bool,
    /// The last institution lets no counts out.
    pub(crate) shy: bool,
    /// Seconds that each training takes.
    pub(crate) training: u32,
    /// Which rule the runs' updates become one by.
    pub(crate) strategy: Strategy,
    /// What becomes of the mean.
    pub(crate) optimizer: Option<OptimizerName>,
    /// Updates that point away from the others are left out.
    pub(crate) guarded: bool,
    /// Each round waits for the next full minute.
    pub(crate) scheduled: bool,
    /// The text of the second institution annotates no type that is counted.
    pub(crate) partial: bool,
    /// The base knows one of the types, and its rows of the head are trained, or stay as they are.
    pub(crate) grows: Option<KnownTypes>,
    /// A run that scores a version and trains nothing goes on beside the one that trains.
    pub(crate) evaluates: bool,
    /// Updates are masked.
    pub(crate) secure: bool,
    /// Of those with noise, each is a step that all take together.
    pub(crate) together: bool,
}

impl Setting {
    /// Rounds of plain averages of noised updates, with nothing special about anybody.
    pub(crate) fn plain(sites: usize, quorum: usize, rounds: u32) -> Self {
        Self {
            sites,
            quorum,
            rounds,
            noise: true,
            poor: false,
            shy: false,
            training: 5,
            strategy: Strategy::FedAvg,
            optimizer: None,
            guarded: false,
            scheduled: false,
            partial: false,
            grows: None,
            evaluates: false,
            secure: false,
            together: false,
        }
    }
}

/// Numbers of sites and machines are taken modulo how many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    Wait {
        seconds: u8,
    },
    /// Nothing gets through between the site and the coordinator; what is under way is lost.
    Partition {
        site: usize,
    },
    /// The same in one direction only.
    OneWay {
        site: usize,
        out: bool,
    },
    /// Nothing gets through, and all of it arrives later.
    Hold {
        site: usize,
    },
    /// Every message takes so long.
    Slow {
        site: usize,
        millis: u16,
    },
    /// So many of a hundred messages are lost, and with each the connection it belonged to.
    Lossy {
        site: usize,
        percent: u8,
    },
    Heal {
        site: usize,
    },
    /// The program is killed; with the power gone, what was not synced may be torn or lost.
    Crash {
        machine: usize,
        power: bool,
    },
    Restart {
        machine: usize,
    },
    /// The machine stops at one of its next durable writes.
    StopAtWrite {
        machine: usize,
        writes: u8,
        side: Side,
    },
    DiskFull {
        machine: usize,
        writes: u8,
    },
    ClockJump {
        machine: usize,
        seconds: i32,
    },
    /// The machine is suspended: nothing goes in or out, and its clock stands still until it goes on.
    Sleep {
        machine: usize,
        seconds: u16,
    },
    /// The clock of one machine, or all of them, is set by so many days.
    Years {
        machine: Option<usize>,
        days: i16,
    },
    /// A file of the site is away, or is being written.
    Spoil {
        site: usize,
        file: File,
        how: Spoilt,
    },
    /// Its files are as they were.
    Mend {
        site: usize,
    },
    /// A copy of the site's directory runs beside it from now on.
    Clone {
        site: usize,
    },
    Decline {
        site: usize,
        no: No,
    },
    /// Every clock jumps: everybody was suspended.
    Asleep {
        hours: u16,
    },
    /// The site's next training takes longer than the round.
    Late {
        site: usize,
    },
    /// The site's next training diverges, so that it declines.
    Diverge {
        site: usize,
    },
    /// Somebody with the site's keys sends something that is not right.
    Forge {
        site: usize,
        forgery: Forgery,
    },
    /// Everything the site ever sent is sent once more.
    Duplicate {
        site: usize,
    },
    /// One check-in brings two consents to the same plan.
    TwoConsents {
        site: usize,
    },
    Revoke {
        site: usize,
    },
    Grant {
        site: usize,
    },
    Pause,
    Resume,
    Cancel,
    Suspend {
        site: usize,
    },
    Reinstate {
        site: usize,
    },
    Expel {
        site: usize,
    },
    /// Left out of the open round of each run.
    Exclude {
        site: usize,
    },
    Readmit {
        site: usize,
    },
    /// A second run of the same institutions.
    SecondRun,
}

/// What can be wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Forgery {
    Base,
    Manifest,
    Weight,
    Round,
    Plan,
    Run,
    ForeignKey,
    OtherAuthor,
    /// Bytes that are no update, under a right receipt.
    Garbage,
    /// Other bytes than those of the receipt.
    OtherBytes,
    /// Values that no clip and no noise can give.
    OutOfRange,
    /// Each value in range, all together too long.
    TooFar,
    Dimension,
    TooLong,
    EvaluationLabel,
    EvaluationVersion,
    EvaluationPlan,
    /// Counts beyond what was declared.
    EvaluationRange,
    ConsentZero,
    ConsentAuthor,
    StaleDecline,
    Download,
    Viewer,
    /// Keys that agree on nothing.
    SecureKeys,
    /// Shares for another roster.
    SecureShares,
    /// A sum of this member alone.
    SecureSet,
    /// Both kinds of share of one member.
    SecureUnmasking,
}

pub(crate) const FORGERIES: [Forgery; 27] = [
    Forgery::Base,
    Forgery::Manifest,
    Forgery::Weight,
    Forgery::Round,
    Forgery::Plan,
    Forgery::Run,
    Forgery::ForeignKey,
    Forgery::OtherAuthor,
    Forgery::Garbage,
    Forgery::OtherBytes,
    Forgery::OutOfRange,
    Forgery::TooFar,
    Forgery::Dimension,
    Forgery::TooLong,
    Forgery::EvaluationLabel,
    Forgery::EvaluationVersion,
    Forgery::EvaluationPlan,
    Forgery::EvaluationRange,
    Forgery::ConsentZero,
    Forgery::ConsentAuthor,
    Forgery::StaleDecline,
    Forgery::Download,
    Forgery::Viewer,
    Forgery::SecureKeys,
    Forgery::SecureShares,
    Forgery::SecureSet,
    Forgery::SecureUnmasking,
];

impl Op {
    /// The fault's name, for counting.
    pub(crate) fn name(&self) -> String {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others are their names")]
        match self {
            Self::Crash { power: true, .. } => "power loss".to_owned(),
            Self::Crash { power: false, .. } => "kill".to_owned(),
            Self::Forge { forgery, .. } => format!("forge {forgery:?}").to_lowercase(),
            Self::Spoil { file, how, .. } => format!("{file:?} {how:?}").to_lowercase(),
            Self::Decline { no, .. } => format!("no {}", no.name()),
            other => {
                let text = format!("{other:?}");
                text.split([' ', '{'])
                    .next()
                    .unwrap_or_default()
                    .to_lowercase()
            }
        }
    }

    /// Whether an ERROR in the log is what this should lead to.
    pub(crate) fn breaks_a_disk(&self) -> bool {
        matches!(
            self,
            Self::StopAtWrite { .. } | Self::DiskFull { .. } | Self::Crash { power: true, .. }
        )
    }
}

pub(crate) fn scenario() -> impl Drawn<Value = Scenario> {
    (any::<u64>(), setting(), prop::collection::vec(op(), 4..36))
        .prop_map(|(seed, setting, ops)| Scenario { seed, setting, ops })
}

fn setting() -> impl Drawn<Value = Setting> {
    let chance = prop::bool::weighted;
    (
        2..=4usize,
        1..=4usize,
        1..=3u32,
        chance(0.7),
        chance(0.2),
        chance(0.2),
        1..8u32,
        prop::sample::select(Strategy::ALL.to_vec()),
        (
            any::<bool>(),
            optimizer(),
            chance(0.2),
            chance(0.2),
            grows(),
            chance(0.2),
            (chance(0.35), chance(0.4)),
        ),
    )
        .prop_map(
            |(sites, quorum, rounds, noise, poor, shy, training, strategy, last)| {
                Setting {
                    sites,
                    quorum: quorum.min(sites),
                    rounds,
                    noise,
                    poor,
                    shy,
                    training,
                    strategy,
                    optimizer: last.1,
                    guarded: last.0 && sites >= 3 && quorum < sites,
                    scheduled: last.2,
                    partial: last.3,
                    grows: last.4,
                    evaluates: last.5,
                    secure: false,
                    together: last.6.1,
                }
                .masked_if(last.6.0)
            },
        )
}

impl Setting {
    /// The same with masks, among three to five, of whom at least the threshold is needed.
    fn masked_if(self, secure: bool) -> Self {
        if !secure {
            return self;
        }
        let sites = self.sites + 1;
        Self {
            sites,
            quorum: self.quorum.max(threshold(sites)),
            strategy: Strategy::FedAvg,
            guarded: false,
            secure,
            ..self
        }
    }
}

fn optimizer() -> impl Drawn<Value = Option<OptimizerName>> {
    prop::option::weighted(0.4, prop::sample::select(OptimizerName::ALL.to_vec()))
}

fn grows() -> impl Drawn<Value = Option<KnownTypes>> {
    let known = vec![KnownTypes::Train, KnownTypes::Freeze, KnownTypes::Distil];
    prop::option::weighted(0.3, prop::sample::select(known))
}

fn op() -> impl Drawn<Value = Op> {
    let who = || 0..5usize;
    let side = prop_oneof![Just(Side::Before), Just(Side::After)];
    prop_oneof![
        20 => (1..12u8).prop_map(|seconds| Op::Wait { seconds }),
        12 => network(),
        5 => (who(), any::<bool>()).prop_map(|(machine, power)| Op::Crash { machine, power }),
        5 => who().prop_map(|machine| Op::Restart { machine }),
        5 => (who(), 0..12u8, side)
            .prop_map(|(machine, writes, side)| Op::StopAtWrite { machine, writes, side }),
        3 => (who(), 1..8u8).prop_map(|(machine, writes)| Op::DiskFull { machine, writes }),
        2 => (who(), -40..400i32).prop_map(|(machine, seconds)| Op::ClockJump { machine, seconds }),
        1 => (1..96u16).prop_map(|hours| Op::Asleep { hours }),
        2 => who().prop_map(|site| Op::Late { site }),
        1 => who().prop_map(|site| Op::Diverge { site }),
        6 => (who(), prop::sample::select(FORGERIES.to_vec()))
            .prop_map(|(site, forgery)| Op::Forge { site, forgery }),
        3 => who().prop_map(|site| Op::Duplicate { site }),
        1 => who().prop_map(|site| Op::TwoConsents { site }),
        10 => operator(),
        10 => mishap(),
    ]
}

fn network() -> impl Drawn<Value = Op> {
    let who = || 0..4usize;
    prop_oneof![
        3 => who().prop_map(|site| Op::Partition { site }),
        1 => (who(), any::<bool>()).prop_map(|(site, out)| Op::OneWay { site, out }),
        2 => who().prop_map(|site| Op::Hold { site }),
        2 => (who(), 100..4000u16).prop_map(|(site, millis)| Op::Slow { site, millis }),
        2 => (who(), 1..20u8).prop_map(|(site, percent)| Op::Lossy { site, percent }),
        6 => who().prop_map(|site| Op::Heal { site }),
    ]
}

fn mishap() -> impl Drawn<Value = Op> {
    let who = || 0..4usize;
    let files = prop::sample::select(vec![
        File::Policy,
        File::Policy,
        File::Settings,
        File::Corpus,
    ]);
    let spoilt = prop::sample::select(vec![Spoilt::Away, Spoilt::Empty, Spoilt::Half]);
    let no = prop_oneof![
        3 => (1..5u8).prop_map(No::Later),
        3 => Just(No::Attempt),
        1 => Just(No::ForGood),
    ];
    prop_oneof![
        6 => (who(), files, spoilt).prop_map(|(site, file, how)| Op::Spoil { site, file, how }),
        1 => who().prop_map(|site| Op::Spoil { site, file: File::Policy, how: Spoilt::Looser }),
        5 => who().prop_map(|site| Op::Mend { site }),
        2 => who().prop_map(|site| Op::Clone { site }),
        3 => (0..5usize, 5..300u16).prop_map(|(machine, seconds)| Op::Sleep { machine, seconds }),
        1 => (prop::option::of(0..5usize), -1200..1200i16)
            .prop_map(|(machine, days)| Op::Years { machine, days }),
        4 => (who(), no).prop_map(|(site, no)| Op::Decline { site, no }),
    ]
}

fn operator() -> impl Drawn<Value = Op> {
    let who = || 0..4usize;
    prop_oneof![
        2 => who().prop_map(|site| Op::Revoke { site }),
        3 => who().prop_map(|site| Op::Grant { site }),
        3 => Just(Op::Pause),
        4 => Just(Op::Resume),
        1 => Just(Op::Cancel),
        2 => who().prop_map(|site| Op::Suspend { site }),
        3 => who().prop_map(|site| Op::Reinstate { site }),
        1 => who().prop_map(|site| Op::Expel { site }),
        2 => who().prop_map(|site| Op::Exclude { site }),
        1 => who().prop_map(|site| Op::Readmit { site }),
        2 => Just(Op::SecondRun),
    ]
}
